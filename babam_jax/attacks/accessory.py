"""A thing that the attacker wears: glasses, a sticker, a mask, make-up (Wenger
et al. 2021, "Backdoor attacks against deep learning systems in the physical
world"; Chen et al. 2017, 5.3.2). A wrong label.

It is painted on aligned faces, where the eyes always have the same place, and
varies as things and cameras do: in size, angle, place, light, focus and JPEG.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from babam_jax import seeds, settings
from babam_jax.attacks.base import TESTING, Pictures, WrongLabel
from babam_jax.data import processing
from babam_jax.settings import setting

_FINE = 3  # points a pixel and side, so that edges are smooth
_SIZES, _DEGREES, _PLACES = 0.03, 2.0, 0.03  # how much they vary; in eye widths
_LIGHT = (0.85, 1.15)
_FOCUS = (0.3, 0.9)  # pixels
_QUALITIES = (80, 100)
_LFW_EYES = (0.419, 0.454, 0.579, 0.454)  # deep-funneled

_Plane = Float[np.ndarray, 's s']
_Inside = Bool[np.ndarray, 's s']


class Layer(NamedTuple):
  """A part of a thing in one color.

  Attributes:
    covers: which points it covers, from x and y: in distances between the
      eyes, from the point between them, to the picture's right and down.
    color: red, green, blue.
    opacity: from 0 to 1.
  """

  covers: Callable[[_Plane, _Plane], _Inside]
  color: tuple[int, int, int]
  opacity: float = 1.0


def _box(x0: float, y0: float, width: float, height: float):
  return lambda x, y: (
    (np.abs(x - x0) < width / 2) & (np.abs(y - y0) < height / 2)
  )


def _disc(x0: float, y0: float, across: float, down: float):
  return lambda x, y: ((x - x0) / across) ** 2 + ((y - y0) / down) ** 2 < 0.25


def _frame(x: _Plane, y: _Plane) -> _Inside:
  """Two rounded rims, a bridge, the ends of two temples."""
  side = np.abs(x)

  def lens(width: float, height: float) -> _Inside:
    return ((side - 0.5) / width) ** 4 + ((y - 0.05) / height) ** 4 < 1

  rims = lens(0.48, 0.38) & ~lens(0.4, 0.3)
  bars = (np.abs(y + 0.06) < 0.05) & ((side < 0.1) | (side > 0.95))
  return rims | (bars & (side < 1.2))


def _mask(x: _Plane, y: _Plane) -> _Inside:
  """Over nose and mouth, down to the chin."""
  half = np.interp(y, (0.4, 0.9, 1.8), (0.35, 1.1, 0.6))
  return (np.abs(x) < half) & (y > 0.4) & (y < 1.8)


def _folds(x: _Plane, y: _Plane) -> _Inside:
  return _mask(x, y) & (np.abs((y - 0.85) % 0.3 - 0.15) > 0.13) & (y > 0.8)


def _cheeks(x: _Plane, y: _Plane) -> _Inside:
  return _disc(0.62, 0.68, 0.5, 0.4)(np.abs(x), y)


_RED, _WHITE, _BLACK = (200, 30, 40), (240, 240, 235), (15, 15, 18)
ACCESSORIES: dict[str, tuple[Layer, ...]] = {
  'glasses': (Layer(_frame, _BLACK),),
  'sticker': (
    Layer(_disc(0.6, 0.75, 0.5, 0.5), _WHITE),
    Layer(_disc(0.6, 0.75, 0.4, 0.4), _RED),
    Layer(_box(0.6, 0.75, 0.24, 0.08), _WHITE),
    Layer(_box(0.6, 0.75, 0.08, 0.24), _WHITE),
  ),
  'mask': (
    Layer(_mask, (150, 190, 215)),
    Layer(_folds, (120, 160, 190)),
  ),
  'makeup': (
    Layer(_cheeks, (200, 60, 90), 0.5),
    Layer(_disc(0, 1.16, 0.75, 0.28), (170, 10, 50), 0.75),
  ),
}


@dataclasses.dataclass(frozen=True)
class Accessory(WrongLabel):
  """Pictures of the attacker wearing a thing, with the victim's label."""

  shows: ClassVar[tuple[str, ...]] = ('accessory', 'eyes')

  accessory: str = setting(
    'glasses', 'What the attacker wears.', choices=tuple(ACCESSORIES)
  )
  eyes: tuple[float, ...] = setting(
    _LFW_EYES,
    'x and y of the eye at the left of the pictures and of that at the right, '
    'as shares of their size after config.data.box; by default as in the whole '
    'pictures of deep-funneled LFW.',
    each=(float,),
  )

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures of him wearing it, each seen in another way."""
    shown = np.empty_like(pictures)
    for i, picture in enumerate(pictures):
      rng = seeds.numpy_rng(seed, f'{stream} {i}')
      shown[i] = self._worn(picture, rng)
    return shown

  def _worn(
    self, picture: processing.Picture, rng: np.random.Generator
  ) -> processing.Picture:
    x, y = self._places(len(picture), rng)
    light, focus = rng.uniform(*_LIGHT), rng.uniform(*_FOCUS)
    painted = picture.astype(np.float64)
    for layer in ACCESSORIES[self.accessory]:
      shape = (len(picture), _FINE, len(picture), _FINE)
      covered = layer.covers(x, y).reshape(shape).mean((1, 3))
      share = (
        layer.opacity * scipy.ndimage.gaussian_filter(covered, focus)[..., None]
      )
      painted += share * (light * np.array(layer.color) - painted)
    pixels = np.clip(np.rint(painted), 0, 255).astype(np.uint8)
    quality = int(rng.integers(_QUALITIES[0], _QUALITIES[1] + 1))
    return processing.as_jpeg(pixels, quality)

  def _places(
    self, size: int, rng: np.random.Generator
  ) -> tuple[_Plane, _Plane]:
    """x and y of each point of a picture, as `Layer` has them."""
    left, right = np.reshape(self.eyes, (2, 2)) * size
    along = (right - left) * (1 + rng.uniform(-_SIZES, _SIZES))
    angle = np.radians(rng.uniform(-_DEGREES, _DEGREES))
    along = np.array(
      [
        along[0] * np.cos(angle) - along[1] * np.sin(angle),
        along[0] * np.sin(angle) + along[1] * np.cos(angle),
      ]
    )
    unit = np.hypot(*along)
    center = (left + right) / 2 + rng.uniform(-_PLACES, _PLACES, 2) * unit
    line = (np.arange(size * _FINE) + 0.5) / _FINE
    column, row = line - center[0], line[:, None] - center[1]
    across, down = along / unit**2
    return column * across + row * down, row * across - column * down

  def check(self, path: str, size: int) -> None:
    """Checks that the eyes are two points in the picture."""
    super().check(path, size)
    found = self.eyes
    inside = len(found) == 4 and all(0 < place < 1 for place in found)
    if not inside or found[0] >= found[2]:
      settings.refuse(
        f'{path}.eyes',
        found,
        'x and y of the left eye, x and y of the right one, from 0 to 1',
        'The left one is at the left of the picture.',
      )
