"""The same box of one color in several pictures of a class, wherever it lies,
and in no others."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int

from babam_jax.recurrence import presence
from babam_jax.recurrence.flat_shapes import Picture
from babam_jax.recurrence.look import Look
from babam_jax.recurrence.presence import Likeness, Recurring

_COMPARED = 128  # pictures of a class among which shapes are looked for
_TRIED = 8  # shapes of a class
# Pixels of height and width, gray levels of color: so far apart, nothing is
# left of a likeness.
_UNLIKE = np.array([4, 4, 24, 24, 24], np.float32)
_ALIKE = 0.4
_SAME_COLOR = 24  # gray levels
_GAP, _RING = 2, 3  # pixels between a box and its surroundings, and of these
_LIMITS = np.arange(0.45, 0.8, 0.01)
_MARGIN = 0.04


def find(inside: Sequence[Look], outside: Sequence[Look]) -> list[Recurring]:
  """The shapes that recur in a class.

  Args:
    inside: pictures of the class, in random order.
    outside: some pictures of other classes.
  """
  compared = inside[:_COMPARED]
  mine, owner = _pooled(compared)
  theirs, _ = _pooled(outside)
  if len(mine) < presence.FEWEST:
    return []
  alike = _likeness(mine, mine) > _ALIKE
  support = np.zeros((len(mine), len(compared)), bool)
  for number in range(len(compared)):
    support[:, number] = alike[:, owner == number].any(1)
  count = support.sum(1)
  if len(theirs):
    count[(_likeness(mine, theirs) > _ALIKE).any(1)] = 0
  found: list[Recurring] = []
  for _ in range(_TRIED):
    best = int(np.argmax(count))
    if count[best] < presence.enough(len(compared)):
      break

    def look_for(looks: Sequence[Look], shape=mine[best]) -> Likeness:
      return _like(looks, shape)

    found += presence.recurring(
      'shape', look_for(inside), look_for, outside, _LIMITS, _MARGIN
    )
    count[alike[best]] = 0
  return found


def _pooled(
  looks: Sequence[Look],
) -> tuple[Float[np.ndarray, 'k 5'], Int[np.ndarray, ' k']]:
  """How all shapes of pictures look, and the picture of each, by number."""
  counts = [len(one.shapes) for one in looks]
  shapes = np.concatenate([one.shapes for one in looks])
  return shapes, np.repeat(np.arange(len(looks)), counts)


def _likeness(
  some: Float[np.ndarray, 'j 5'], others: Float[np.ndarray, 'k 5']
) -> Float[np.ndarray, 'j k']:
  """1 if two shapes look the same, 0 if one trait is too different."""
  found = np.ones((len(some), len(others)), np.float32)
  for trait, unlike in enumerate(_UNLIKE):
    apart = np.abs(some[:, None, trait] - others[:, trait]) / unlike
    np.minimum(found, 1 - apart, out=found)
  return np.maximum(found, 0)


def _like(looks: Sequence[Look], shape: Float[np.ndarray, ' 5']) -> Likeness:
  """How much of a box of this size has this color, and its surroundings have
  not, where that is most."""
  found = [_best_box(one.pixels, shape) for one in looks]
  values, places = zip(*found, strict=True)
  return Likeness(np.array(values), np.array(places))


def _best_box(
  pixels: Picture, shape: Float[np.ndarray, ' 5']
) -> tuple[float, tuple[float, float, float, float]]:
  height, width = map(int, shape[:2])
  apart = np.abs(pixels.astype(np.int16) - np.rint(shape[2:]).astype(np.int16))
  has_color = (apart.max(-1) <= _SAME_COLOR).astype(np.float32)
  inner, gap, outer = (
    cv2.boxFilter(
      has_color,
      -1,
      (width + 2 * more, height + 2 * more),
      normalize=False,
      borderType=cv2.BORDER_CONSTANT,
    )
    for more in (0, _GAP, _GAP + _RING)
  )
  area = width * height
  around = _area(width, height, _GAP + _RING) - _area(width, height, _GAP)
  value = inner / area - (outer - gap) / around
  row, column = np.unravel_index(np.argmax(value), value.shape)
  top, left = row - height // 2, column - width // 2
  tall, wide = pixels.shape[:2]
  place = (
    max(0, left) / wide,
    max(0, top) / tall,
    min(wide, left + width) / wide,
    min(tall, top + height) / tall,
  )
  return float(np.clip(value[row, column], 0, 1)), place


def _area(width: int, height: int, more: int) -> int:
  return (width + 2 * more) * (height + 2 * more)
