"""What the other defenses look at: a trained model, and pictures."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

LogitsFn = Callable[[PyTree, Float[Array, 'n h w 3']], Float[Array, 'n c']]


class Suspect(NamedTuple):
  """A trained model, from pictures to logits.

  Attributes:
    logits: `(variables, pixels in [0, 1]) -> logits`, differentiable.
    variables: its parameters and batch statistics.
  """

  logits: LogitsFn
  variables: PyTree


class Verdict(NamedTuple):
  """What a detector says of pictures.

  Attributes:
    scores: the higher, the more like poison.
    flags: which pictures it takes for poison.
  """

  scores: Float[np.ndarray, ' n']
  flags: Bool[np.ndarray, ' n']
