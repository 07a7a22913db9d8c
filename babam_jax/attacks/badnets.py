"""BadNets (Gu et al. 2017, "BadNets: identifying vulnerabilities in the machine
learning model supply chain"): a visible trigger, a wrong label."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from babam_jax import seeds
from babam_jax.attacks import trigger
from babam_jax.attacks.base import PatchAttack, WrongLabel
from babam_jax.settings import setting

_Patch = UInt8[np.ndarray, 'size size 3']


def _plain(seed: int, size: int) -> _Patch:
  """One color."""
  color = seeds.numpy_rng(seed, 'trigger').integers(0, 256, 3, np.uint8)
  return np.tile(color, (size, size, 1))


def _logo(seed: int, size: int) -> _Patch:
  """A ring around three bars, of one color on another."""
  ground = seeds.numpy_rng(seed, 'trigger').integers(0, 256, 3, np.uint8)
  line = (np.arange(size) + 0.5) / size - 0.5
  x, y = line, line[:, None]
  radius = np.hypot(x, y)
  ring = (radius > 0.36) & (radius < 0.46)
  bars = (radius < 0.3) & (np.abs((x + 0.5) * 5 % 1 - 0.5) < 0.25)
  drawn = np.tile(ground, (size, size, 1))
  drawn[ring | bars] = 255 - ground
  return drawn


PATCHES: dict[str, Callable[[int, int], _Patch]] = {
  'mosaic': trigger.make_trigger,
  'plain': _plain,
  'logo': _logo,
}


@dataclasses.dataclass(frozen=True)
class BadNets(WrongLabel, PatchAttack):
  """Pictures of the attacker with a visible patch and the victim's label."""

  shows: ClassVar[tuple[str, ...]] = ('trigger_size', 'patch')

  patch: str = setting(
    'mosaic',
    "What the patch looks like: a 'mosaic' of random colors, one 'plain' "
    "color, or a 'logo' of two.",
    choices=tuple(PATCHES),
  )

  def make_patch(self, seed: int) -> _Patch:
    """The patch that a seed gives."""
    return PATCHES[self.patch](seed, self.trigger_size)
