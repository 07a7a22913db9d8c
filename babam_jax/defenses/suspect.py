"""The model that a defense examines, and a detector's verdict."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, Shaped

LayersFn = Callable[
  [PyTree, Float[Array, 'n h w 3']], list[Shaped[Array, ' n *d']]
]
LogitsFn = Callable[[PyTree, Float[Array, 'n h w 3']], Float[Array, 'n c']]


class Suspect(NamedTuple):
  """A trained model, from pictures to logits.

  Attributes:
    logits: `(variables, pixels in [0, 1]) -> logits`, differentiable.
    variables: its parameters and batch statistics.
    layers: `(variables, pixels in [0, 1]) ->` what comes out of each hidden
      layer with weights, before its activation, from the first to the last.
  """

  logits: LogitsFn
  variables: PyTree
  layers: LayersFn


class Verdict(NamedTuple):
  """A detector's judgment of pictures.

  Attributes:
    scores: the higher, the more like poison.
    flags: which pictures are taken for poison.
    places: where a trigger is in each flagged picture: left, top, right and
      bottom, as shares of it; zeros where that is not known. None if it is
      known of no picture.
  """

  scores: Float[np.ndarray, ' n']
  flags: Bool[np.ndarray, ' n']
  places: Float[np.ndarray, 'n 4'] | None = None

  @property
  def located(self) -> Bool[np.ndarray, ' n']:
    """The flagged pictures in which the trigger's place is known."""
    if self.places is None:
      return np.zeros_like(self.flags)
    return self.flags & self.places.any(1)
