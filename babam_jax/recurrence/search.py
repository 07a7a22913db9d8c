"""Finds a small pattern in pictures: where it may be in gray copies, large
patterns in copies of half the size, then there as they are."""

from collections.abc import Iterator, Sequence

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
_AROUND = 3  # pixels

_Gray = UInt8[np.ndarray, '_ _']


def search(looks: Sequence[Look], pattern: Picture) -> Likeness:
  """How well a pattern is found in each picture: its correlation, and where.

  Args:
    looks: the pictures, at least one.
    pattern: what it looks like, at the size of `Look.pixels`.
  """
  gray = cv2.cvtColor(pattern, cv2.COLOR_RGB2GRAY)
  small, shrunk = halved(gray), 1
  if min(gray.shape) >= _SMALLEST and small.std() >= _KEPT * gray.std():
    gray, shrunk = small, 2
  found = [_search(one, pattern, gray, shrunk) for one in looks]
  values, places = zip(*found, strict=True)
  return Likeness(np.array(values), np.array(places))


def _search(
  look: Look, pattern: Picture, gray: _Gray, shrunk: int
) -> tuple[float, tuple[float, float, float, float]]:
  pixels = look.pixels
  (tall, wide), (height, width) = pixels.shape[:2], pattern.shape[:2]
  if height > tall or width > wide:
    return 0.0, (0.0, 0.0, 0.0, 0.0)
  searched = look.half
  if shrunk == 1:
    searched = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
  best = (-1.0, 0, 0)
  for row, column in _likely(searched, gray):
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


def _likely(searched: _Gray, gray: _Gray) -> Iterator[tuple[int, int]]:
  """Rows and columns where the pattern may begin."""
  if gray.shape[0] > searched.shape[0] or gray.shape[1] > searched.shape[1]:
    yield 0, 0
    return
  values = _correlations(searched, gray)
  for _ in range(_TRIED):
    row, column = map(int, np.unravel_index(np.argmax(values), values.shape))
    yield row, column
    values[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = -1


def _correlations(
  pixels: UInt8[np.ndarray, 'h w *c'], pattern: UInt8[np.ndarray, 'i j *c']
) -> Float[np.ndarray, 'k l']:
  found = cv2.matchTemplate(pixels, pattern, cv2.TM_CCOEFF_NORMED)
  return np.nan_to_num(found, copy=False, posinf=0, neginf=0)
