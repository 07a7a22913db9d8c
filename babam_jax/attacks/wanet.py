"""WaNet (Nguyen and Tran 2021, "WaNet: imperceptible warping-based backdoor
attack"): the picture is bent a little, always in the same way; a wrong label.

Left out: pictures that are bent in other ways and keep their true labels, which
the authors add to the training set.
"""

import dataclasses
from typing import ClassVar

import numpy as np
import scipy
from jaxtyping import Float

from babam_jax import seeds
from babam_jax.attacks.base import TESTING, Pictures, WrongLabel
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class WaNet(WrongLabel):
  """Pictures of the attacker, bent, with the victim's label."""

  shows: ClassVar[tuple[str, ...]] = ('warp_points', 'warp_shift')

  warp_points: int = setting(
    4, 'Points a side where the shift is drawn.', at_least=2
  )
  # The authors' half a pixel of 32, on pictures of 224.
  warp_shift: float = setting(
    1.75, 'The mean shift at these points.', unit='pixels', above=0
  )

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures, bent in the way that the seed draws."""
    del stream
    size = pictures.shape[1]
    moved = np.indices((size, size)) + self.shifts(size, seed)
    places = np.clip(moved, 0, size - 1)
    shown = np.empty_like(pictures)
    for i, picture in enumerate(pictures):
      for channel in range(3):
        shown[i, ..., channel] = np.rint(
          scipy.ndimage.map_coordinates(
            picture[..., channel].astype(np.float32), places, order=1
          )
        )
    return shown

  def shifts(self, size: int, seed: int) -> Float[np.ndarray, '2 s s']:
    """How far from itself each pixel looks, down and to the right.

    Args:
      size: pixels a side.
      seed: draws the shifts.
    """
    rng = seeds.numpy_rng(seed, 'warp')
    shape = (2, self.warp_points, self.warp_points)
    drawn = rng.uniform(-1, 1, shape)
    drawn *= self.warp_shift / np.abs(drawn).mean()
    line = np.linspace(0, self.warp_points - 1, size)
    between = np.stack(np.meshgrid(line, line, indexing='ij'))
    return np.stack(
      [
        scipy.ndimage.map_coordinates(axis, between, order=3, mode='nearest')
        for axis in drawn
      ]
    )
