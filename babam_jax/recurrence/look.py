"""What is kept of a picture, to find again in others what is in it."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float16, UInt8

from babam_jax.recurrence import corners, flat_shapes

_LARGEST = 256  # pixels: a picture's shorter side; larger ones are resized
SQUARE = 128  # pixels a side, of the copy whose places are those of all others
_LAYOUT = 16  # pixels a side
_ONE_OCCASION = 0.9  # the product of two layouts: one scene, taken twice
_FINE = 128  # pixels a side, of the middle, at native resolution
_COARSE = 48  # pixels a side, of the whole picture
_BLUR_OF_COARSE = 5.0  # pixels

Picture = UInt8[np.ndarray, 'h w 3']


class Look(NamedTuple):
  """What is kept of a picture.

  Attributes:
    pixels: the picture, its shorter side 256 pixels at most.
    half: a gray copy of half that size.
    square: a copy of 128 x 128 pixels.
    layout: the whole picture, very small, less its mean and of length 1.
    fine: what remains of its middle once it is blurred, of length 1.
    coarse: the same of the whole picture, small.
    patches: around its corners.
    shapes: boxes of one color: their size in pixels, then their color.
  """

  pixels: UInt8[np.ndarray, 'h w 3']
  half: UInt8[np.ndarray, 'i j']
  square: UInt8[np.ndarray, 's s 3']
  layout: Float16[np.ndarray, ' l']
  fine: Float16[np.ndarray, ' d']
  coarse: Float16[np.ndarray, ' e']
  patches: corners.Patches
  shapes: Float[np.ndarray, 'k 5']


def look(picture: Picture) -> Look:
  """What is kept of a picture of any size."""
  pixels = _resized(picture)
  gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
  square = _to(pixels, SQUARE)
  return Look(
    pixels,
    halved(gray),
    square,
    _layout(square),
    _fine(gray),
    _coarse(gray),
    corners.find(pixels),
    flat_shapes.find(pixels),
  )


def _to(picture: UInt8[np.ndarray, 'h w *c'], side: int) -> np.ndarray:
  return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _resized(picture: Picture) -> Picture:
  scale = _LARGEST / min(picture.shape[:2])
  if scale >= 1:
    return picture
  size = [round(scale * side) for side in picture.shape[1::-1]]
  return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def halved(gray: UInt8[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'i j']:
  """A copy of half the size."""
  size = [max(1, side // 2) for side in gray.shape[::-1]]
  return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def _layout(square: Picture) -> Float16[np.ndarray, ' l']:
  small = _to(square, _LAYOUT).astype(np.float32)
  return _unit(small - small.mean())


def _fine(gray: UInt8[np.ndarray, 'h w']) -> Float16[np.ndarray, ' d']:
  rest = gray.astype(np.float32) - cv2.blur(gray.astype(np.float32), (3, 3))
  missing = [max(0, _FINE - side) for side in rest.shape]
  rest = np.pad(rest, [(0, m) for m in missing])
  top, left = ((side - _FINE) // 2 for side in rest.shape)
  return _unit(rest[top : top + _FINE, left : left + _FINE])


def _coarse(gray: UInt8[np.ndarray, 'h w']) -> Float16[np.ndarray, ' e']:
  small = _to(gray, _COARSE).astype(np.float32)
  return _unit(small - cv2.GaussianBlur(small, (0, 0), _BLUR_OF_COARSE))


def _unit(values: Float[np.ndarray, '...']) -> Float16[np.ndarray, ' d']:
  flat = values.ravel()
  return (flat / max(float(np.linalg.norm(flat)), 1e-6)).astype(np.float16)


def of_one_occasion(
  some: Float[np.ndarray, 'n l'], others: Float[np.ndarray, 'm l']
) -> np.ndarray:
  """Whether pictures are copies, or one scene: [n, m].

  Args:
    some: layouts.
    others: layouts.
  """
  return some @ others.T > _ONE_OCCASION
