"""The model that a defense examines, and a detector's verdict."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from babam_jax import errors
from babam_jax.data.examples import Examples

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


_MADE_BY = {
  Examples: 'babam_jax.examples(images, labels)',
  Verdict: 'babam_jax.load_pirm().judge(images)',
}


def check_judged(untrusted: object, verdict: object) -> None:
  """Checks what a library's user gives: pictures, and a verdict on them.

  Raises:
    UserError: they are something else, or do not belong together.
  """
  for name, value, kind in (
    ('untrusted', untrusted, Examples),
    ('verdict', verdict, Verdict),
  ):
    if not isinstance(value, kind):
      raise errors.UserError(
        f'{name}: found {type(value).__name__}, expected {kind.__name__}. Make '
        f'one with {_MADE_BY[kind]}.'
      )
  assert isinstance(untrusted, Examples) and isinstance(verdict, Verdict)
  if np.shape(verdict.flags) != (len(untrusted),):
    raise errors.UserError(
      f'verdict: found flags of {np.size(verdict.flags)} pictures, expected '
      f'those of these {len(untrusted)}. Judge the same pictures.'
    )
