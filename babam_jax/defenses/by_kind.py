"""A treatment for each kind of poison: Algorithm 1's noise for what one cannot
see, another one for triggers that one can see and whose place is known."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Verdict
from babam_jax.defenses.calibrated_noise import CalibratedNoise
from babam_jax.settings import setting

Picture = UInt8[np.ndarray, 'h w 3']
Place = Float[np.ndarray, '4']
_MORE = 3  # pixels around a place that are treated, too
_REACH = 5  # pixels from which in-painting takes what it paints


def inside(shape: tuple[int, ...], place: Place) -> UInt8[np.ndarray, 'h w']:
  """1 in a place and a few pixels around it, 0 elsewhere.

  Args:
    shape: height and width of the picture.
    place: left, top, right and bottom, as shares of the picture.
  """
  height, width = shape[:2]
  left, top = np.floor(place[:2] * (width, height)).astype(int) - _MORE
  right, bottom = np.ceil(place[2:] * (width, height)).astype(int) + _MORE
  mask = np.zeros((height, width), np.uint8)
  mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 1
  return mask


def _noise(before: Picture, noised: Picture, place: Place) -> Picture:
  del before, place
  return noised


def _local_noise(before: Picture, noised: Picture, place: Place) -> Picture:
  return np.where(inside(before.shape, place)[..., None], noised, before)


def _inpaint(before: Picture, noised: Picture, place: Place) -> Picture:
  """By Telea (2004); of a trigger all over the picture nothing is left to paint
  from, so it gets noise."""
  mask = inside(before.shape, place)
  if mask.all():
    return noised
  return cv2.inpaint(before, mask, _REACH, cv2.INPAINT_TELEA)


# From a picture, the same with Algorithm 1's noise, and a place.
CHANGES: dict[str, Callable[[Picture, Picture, Place], Picture]] = {
  'noise': _noise,
  'local_noise': _local_noise,
  'inpaint': _inpaint,
}
DROP = 'drop'


@dataclasses.dataclass(frozen=True)
class ByKind(CalibratedNoise):
  """Algorithm 1's noise, but for pictures with a visible trigger."""

  visible: str = setting(
    DROP,
    'What happens to pictures in which a trigger was located: left out '
    "('drop'), Algorithm 1's 'noise' as for all others, 'local_noise' (in that "
    "place alone), or 'inpaint' (the place is painted over).",
    choices=(DROP, *CHANGES),
  )

  def treat(self, examples: Examples, verdict: Verdict, seed: int) -> Examples:
    """Treats each flagged picture by its kind."""
    treated = super().treat(examples, verdict, seed)
    located = verdict.located
    if not located.any():
      return treated
    if self.visible == DROP:
      return treated.take(~located)
    images = treated.images.copy()
    assert verdict.places is not None
    for row in np.flatnonzero(located):
      images[row] = CHANGES[self.visible](
        examples.images[row], images[row], verdict.places[row]
      )
    return dataclasses.replace(treated, images=images)
