"""The same thing at the same place in several pictures of a class, and in no
others: what is worn on faces that are aligned, a trigger in a corner.

All places of a grid are compared; then what recurs most is looked for around
its place in all pictures.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from babam_jax.recurrence import look as looks_of
from babam_jax.recurrence import presence
from babam_jax.recurrence.look import SQUARE, Look
from babam_jax.recurrence.presence import Likeness, Recurring

_COMPARED = 128  # pictures of a class that are compared with each other
_CHANCE = 64  # pictures of other classes that tell what chance explains
_SHRUNK = 2  # pictures are compared at half the size of `Look.square`
_WINDOW, _STEP = 20, 8  # pixels of `Look.square`
_FLAT = 8.0  # gray levels: a window of less deviation is left out
_ALIKE = 0.92  # the least product of two windows with the same thing
_TRIED = 12  # windows of a class
_AROUND = 2  # pixels of `Look.square` by which the place may differ
_LIMITS = np.arange(0.6, 0.95, 0.01)
_MARGIN = 0.08


def find(inside: Sequence[Look], outside: Sequence[Look]) -> list[Recurring]:
  """What recurs at its place in a class.

  Args:
    inside: pictures of the class, in random order.
    outside: some pictures of other classes.
  """
  compared = inside[:_COMPARED]
  support = _support(compared, outside[:_CHANCE])
  found: list[Recurring] = []
  # The best picture of each place, the best places first.
  best = support.argmax(0)
  count = support[best, np.arange(len(best))]
  for window in np.argsort(-count, kind='stable')[:_TRIED]:
    if count[window] < presence.enough(len(compared)) - 1:
      break
    top, left = _corners()[window]
    part = np.s_[top : top + _WINDOW, left : left + _WINDOW]
    pattern = compared[best[window]].square[part]

    def look_for(looks, pattern=pattern, top=top, left=left) -> Likeness:
      return _like(looks, pattern, int(top), int(left))

    found += presence.recurring(
      'place', look_for(inside), look_for, outside, _LIMITS, _MARGIN
    )
  return found


def _corners() -> Int[np.ndarray, 'w 2']:
  """Top and left of each window."""
  line = np.arange(0, SQUARE - _WINDOW + 1, _STEP)
  return np.stack(np.meshgrid(line, line, indexing='ij'), -1).reshape(-1, 2)


def _shrunk(looks: Sequence[Look]) -> Float[np.ndarray, 'n s s 3']:
  side = SQUARE // _SHRUNK
  found = [
    cv2.resize(one.square, (side, side), interpolation=cv2.INTER_AREA)
    for one in looks
  ]
  return np.stack(found).astype(np.float32)


def _read(
  pictures: Float[np.ndarray, 'n s s 3'], top: int, left: int
) -> Float[np.ndarray, 'n d']:
  """One window of each picture, of length 1; 0 where it is flat."""
  size = _WINDOW // _SHRUNK
  top, left = top // _SHRUNK, left // _SHRUNK
  rows = pictures[:, top : top + size, left : left + size]
  rows = rows.reshape(len(rows), -1)
  rows = rows - rows.mean(1, keepdims=True)
  length = np.linalg.norm(rows, axis=1, keepdims=True)
  rows /= np.maximum(length, 1e-6)
  rows[length[:, 0] < _FLAT * np.sqrt(rows.shape[1])] = 0
  return rows


def _support(
  inside: Sequence[Look], outside: Sequence[Look]
) -> Float[np.ndarray, 'n w']:
  """With how many of the class a picture shares a window, less those that
  chance explains. Pictures of one occasion share nothing."""
  mine, theirs = _shrunk(inside), _shrunk(outside)
  layouts, others = (
    np.stack([one.layout for one in looks]).astype(np.float32)
    for looks in (inside, outside)
  )
  is_other = ~looks_of.of_one_occasion(layouts, layouts)
  apart = ~looks_of.of_one_occasion(layouts, others)
  ratio = len(inside) / len(outside)
  corners = _corners()
  support = np.zeros((len(inside), len(corners)))
  for window, (top, left) in enumerate(corners.tolist()):
    here, there = (_read(some, top, left) for some in (mine, theirs))
    shared = ((here @ here.T > _ALIKE) & is_other).sum(1)
    elsewhere = ((here @ there.T > _ALIKE) & apart).sum(1)
    support[:, window] = np.maximum(shared - 2 * ratio * elsewhere, 0)
  return support


def _like(
  looks: Sequence[Look],
  pattern: UInt8[np.ndarray, 's s 3'],
  top: int,
  left: int,
) -> Likeness:
  """How well a pattern is found around its place in each picture."""
  first_row, first_column = max(0, top - _AROUND), max(0, left - _AROUND)
  part = np.s_[
    first_row : top + _AROUND + _WINDOW, first_column : left + _AROUND + _WINDOW
  ]
  values, places = np.zeros(len(looks)), np.zeros((len(looks), 4))
  for number, one in enumerate(looks):
    found = cv2.matchTemplate(one.square[part], pattern, cv2.TM_CCOEFF_NORMED)
    found = np.nan_to_num(found, posinf=0, neginf=0)
    row, column = np.unravel_index(np.argmax(found), found.shape)
    values[number] = np.clip(found[row, column], 0, 1)
    x, y = first_column + int(column), first_row + int(row)
    places[number] = (x, y, x + _WINDOW, y + _WINDOW)
  return Likeness(values, places / SQUARE)
