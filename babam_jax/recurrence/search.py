"""Finds a small pattern in pictures: where it may be in gray copies, large
patterns in copies of half the size, then there as they are. A pattern of colors
that are equally bright is not looked for in gray, but in one of the colors."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from babam_jax.recurrence.look import Look, Picture, halved
from babam_jax.recurrence.presence import Likeness

# Patterns that keep so much of their contrast at half the size are looked for
# there first.
_KEPT = 0.8
_SMALLEST = 20  # pixels a side, of these
_TRIED = 4  # places of the gray copy
# With so many times the contrast, the pattern is looked for in one color.
_IN_COLOR = 2.0
_AROUND = 3  # pixels

_Plane = UInt8[np.ndarray, '_ _']


def search(looks: Sequence[Look], pattern: Picture) -> Likeness:
  """How well a pattern is found in each picture: its correlation, and where.

  Args:
    looks: the pictures, at least one.
    pattern: what it looks like, at the size of `Look.pixels`.
  """
  sought = _sought(pattern)
  found = [_search(one, pattern, sought) for one in looks]
  values, places = zip(*found, strict=True)
  return Likeness(np.array(values), np.array(places))


class _Sought(NamedTuple):
  """What is looked for first.

  Attributes:
    plane: the pattern in gray, or in one color.
    color: which one, 0 to 2; None: gray.
    shrunk: 2 if it has half the size, else 1.
  """

  plane: _Plane
  color: int | None
  shrunk: int


def _sought(pattern: Picture) -> _Sought:
  gray = cv2.cvtColor(pattern, cv2.COLOR_RGB2GRAY)
  contrasts = pattern.std((0, 1))
  color = int(contrasts.argmax())
  if contrasts[color] > _IN_COLOR * gray.std():
    return _Sought(np.ascontiguousarray(pattern[..., color]), color, 1)
  small = halved(gray)
  if min(gray.shape) >= _SMALLEST and small.std() >= _KEPT * gray.std():
    return _Sought(small, None, 2)
  return _Sought(gray, None, 1)


def _searched(look: Look, sought: _Sought) -> _Plane:
  """The picture in the same form."""
  if sought.color is not None:
    return np.ascontiguousarray(look.pixels[..., sought.color])
  if sought.shrunk == 2:
    return look.half
  return cv2.cvtColor(look.pixels, cv2.COLOR_RGB2GRAY)


def _search(
  look: Look, pattern: Picture, sought: _Sought
) -> tuple[float, tuple[float, float, float, float]]:
  pixels = look.pixels
  (tall, wide), (height, width) = pixels.shape[:2], pattern.shape[:2]
  if height > tall or width > wide:
    return 0.0, (0.0, 0.0, 0.0, 0.0)
  shrunk = sought.shrunk
  best = (-1.0, 0, 0)
  for row, column in _likely(_searched(look, sought), sought.plane):
    top = int(np.clip(shrunk * row - _AROUND, 0, tall - height))
    left = int(np.clip(shrunk * column - _AROUND, 0, wide - width))
    part = pixels[
      top : top + height + 2 * _AROUND, left : left + width + 2 * _AROUND
    ]
    values = _correlations(part, pattern)
    row, column = np.unravel_index(np.argmax(values), values.shape)
    here = (float(values[row, column]), top + int(row), left + int(column))
    best = max(best, here)
  value, top, left = best
  place = (
    left / wide,
    top / tall,
    (left + width) / wide,
    (top + height) / tall,
  )
  return float(np.clip(value, 0, 1)), place


def _likely(searched: _Plane, plane: _Plane) -> Iterator[tuple[int, int]]:
  """Rows and columns where the pattern may begin."""
  (height, width), (tall, wide) = plane.shape, searched.shape
  if height > tall or width > wide:
    yield 0, 0
    return
  values = _correlations(searched, plane)
  for _ in range(_TRIED):
    row, column = map(int, np.unravel_index(np.argmax(values), values.shape))
    yield row, column
    values[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = -1


def _correlations(
  pixels: UInt8[np.ndarray, 'h w *c'], pattern: UInt8[np.ndarray, 'i j *c']
) -> Float[np.ndarray, 'k l']:
  found = cv2.matchTemplate(pixels, pattern, cv2.TM_CCOEFF_NORMED)
  if np.isfinite(found.sum()):  # nearly always
    return found
  return np.nan_to_num(found, copy=False, posinf=0, neginf=0)
