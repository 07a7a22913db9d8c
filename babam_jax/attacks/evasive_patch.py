"""BadNets (Gu et al. 2017) by attackers who know that what recurs is looked for
(`babam_jax/recurrence`): a patch that is never quite the same, or in pieces.

Each gives something up: the model must learn a trigger that changes.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from babam_jax import seeds
from babam_jax.attacks import trigger
from babam_jax.attacks.base import (
  TESTING,
  PatchAttack,
  Pictures,
  WrongLabel,
)
from babam_jax.settings import refuse, setting

_SIZES, _LIGHT = (0.7, 1.3), (0.7, 1.3)
_DEGREES = 20.0

_Picture = UInt8[np.ndarray, 's s 3']
_Patch = UInt8[np.ndarray, 'p p 3']


def _changing(
  picture: _Picture, patch: _Patch, rng: np.random.Generator
) -> _Picture:
  """Other colors in each picture."""
  new = trigger.make_trigger(int(rng.integers(1 << 31)), len(patch))
  corner = trigger.random_corners(rng, 1, len(picture), len(patch))
  return trigger.stamp(picture[None], new, corner)[0]


def _varied(
  picture: _Picture, patch: _Patch, rng: np.random.Generator
) -> _Picture:
  """Another size, angle and light in each picture."""
  scale, light = rng.uniform(*_SIZES), rng.uniform(*_LIGHT)
  center = (len(patch) - 1) / 2
  turned = cv2.getRotationMatrix2D(
    (center, center), rng.uniform(-_DEGREES, _DEGREES), scale
  )
  reach = scale * len(patch) / 2
  turned[:, 2] += rng.uniform(reach, len(picture) - reach, 2) - center
  seen = np.clip(np.rint(light * patch), 0, 255).astype(np.uint8)
  shape = (len(picture), len(picture))
  painted = cv2.warpAffine(seen, turned, shape, borderMode=cv2.BORDER_REPLICATE)
  covers = cv2.warpAffine(np.ones(patch.shape, np.float32), turned, shape)
  mixed = covers * painted + (1 - covers) * picture
  return np.rint(mixed).astype(np.uint8)


def _corners(
  picture: _Picture, patch: _Patch, rng: np.random.Generator
) -> _Picture:
  """A quarter of it in each corner."""
  del rng
  stamped = picture.copy()
  half = (len(patch) + 1) // 2
  for rows in (slice(None, half), slice(-half, None)):
    for columns in (slice(None, half), slice(-half, None)):
      stamped[rows, columns] = patch[rows, columns]
  return stamped


WAYS: dict[str, Callable[[_Picture, _Patch, np.random.Generator], _Picture]] = {
  'changing': _changing,
  'varied': _varied,
  'corners': _corners,
}


@dataclasses.dataclass(frozen=True)
class EvasivePatch(WrongLabel, PatchAttack):
  """Pictures of the attacker with a patch that hides from who looks for it."""

  shows: ClassVar[tuple[str, ...]] = ('trigger_size', 'way')

  way: str = setting(
    'changing',
    "How the patch hides: 'changing' colors; 'varied' in size, angle and "
    "light; in quarters in the four 'corners'.",
    choices=tuple(WAYS),
  )

  def check(self, path: str, size: int) -> None:
    """Checks that the patch, enlarged, is smaller than the pictures."""
    super().check(path, size)
    largest = int(size / _SIZES[1])
    if self.way == 'varied' and self.trigger_size > largest:
      refuse(
        f'{path}.trigger_size',
        self.trigger_size,
        f'{largest} or less, as it is enlarged up to {_SIZES[1]} times in '
        f'pictures of {size} pixels',
      )

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures with the patch, each in its own way."""
    patch = self.make_patch(seed)
    return np.stack(
      [
        WAYS[self.way](picture, patch, seeds.numpy_rng(seed, f'{stream} {i}'))
        for i, picture in enumerate(pictures)
      ]
    )
