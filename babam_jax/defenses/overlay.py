"""The same faint picture over several pictures of a class, and no others: a
trigger that is blended over the whole picture.

What remains of pictures once they are blurred is compared, pixel by pixel, at
two scales: fine patterns as they are, coarse ones on small copies. What faces
that are aligned have in common is first removed: the principal components of
pictures of other classes. An overlay is there or is not; a likeness is there
more or less.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float16, Int, UInt8

from babam_jax.defenses import local_patches, presence

_COMPARED = 128  # pictures of a class among which an overlay is looked for
_FINE = 128  # pixels a side, of the middle, at native resolution
_COARSE = 48  # pixels a side, of the whole picture
_BLUR_OF_COARSE = 5.0  # pixels
_COMMON = 12  # principal components that are removed
_NEIGHBORS = 4  # pictures whose mean is the first guess of an overlay
_ROUNDS = 3  # in which the guess is refined
_LIMITS = np.arange(0.15, 0.8, 0.01)
_MARGIN = 0.05

Picture = UInt8[np.ndarray, 'h w 3']


class Remains(NamedTuple):
  """What remains of a picture at two scales, each of length 1.

  Attributes:
    fine: of the middle, at native resolution.
    coarse: of the whole picture, small.
    layout: the whole picture, very small.
  """

  fine: Float16[np.ndarray, ' d']
  coarse: Float16[np.ndarray, ' e']
  layout: Float16[np.ndarray, ' l']


def look(picture: Picture) -> Remains:
  """What remains of a picture."""
  gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
  fine = gray - cv2.blur(gray, (3, 3))
  missing = [max(0, _FINE - side) for side in fine.shape]
  fine = np.pad(fine, [(0, m) for m in missing])
  top, left = ((side - _FINE) // 2 for side in fine.shape)
  size = (_COARSE, _COARSE)
  coarse = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
  coarse -= cv2.GaussianBlur(coarse, (0, 0), _BLUR_OF_COARSE)
  return Remains(
    _unit(fine[top : top + _FINE, left : left + _FINE]),
    _unit(coarse),
    local_patches.layout(picture),
  )


def _unit(values: Float[np.ndarray, 'h w']) -> Float16[np.ndarray, ' d']:
  flat = values.ravel()
  return (flat / max(float(np.linalg.norm(flat)), 1e-6)).astype(np.float16)


class Finding(NamedTuple):
  """Which pictures of a class have the same overlay.

  Attributes:
    scores: the correlation with it, from 0 to 1; 0 without one.
    flags: whether it is there.
  """

  scores: Float[np.ndarray, ' n']
  flags: Bool[np.ndarray, ' n']


def judge(
  pictures: Sequence[Remains],
  outside: Sequence[Remains],
) -> Finding:
  """Looks for an overlay in the pictures of one class.

  Args:
    pictures: those of the class, in random order; an overlay is looked for
      among the first.
    outside: some pictures of other classes.
  """
  scores = np.zeros(len(pictures))
  flags = np.zeros(len(pictures), bool)
  if len(pictures) < presence.FEWEST or not outside:
    return Finding(scores, flags)
  compared = _occasions(_stacked(pictures[:_COMPARED], 'layout'))
  if len(compared) < presence.FEWEST:
    return Finding(scores, flags)
  for scale in ('fine', 'coarse'):
    here, there = _without_common(
      _stacked(pictures, scale), _stacked(outside, scale)
    )
    values, beyond = _correlations(here, there, compared)
    limit = presence.limit(values, beyond, _LIMITS, _MARGIN)
    if limit is not None:
      found = values > limit
      scores[found] = np.maximum(scores, values)[found]
      flags |= found
  return Finding(scores, flags)


def _occasions(
  layouts: Float[np.ndarray, 'k l'],
) -> Int[np.ndarray, ' c']:
  """One picture of each occasion: copies, and several of one scene, are alike
  as a whole."""
  same = layouts @ layouts.T > local_patches.ONE_OCCASION
  chosen: list[int] = []
  for number in range(len(layouts)):
    if not same[number, chosen].any():
      chosen.append(number)
  return np.array(chosen)


def _stacked(
  pictures: Sequence[Remains], name: str
) -> Float[np.ndarray, 'n d']:
  return np.stack([getattr(one, name) for one in pictures]).astype(np.float32)


def _without_common(
  here: Float[np.ndarray, 'n d'], there: Float[np.ndarray, 'm d']
) -> tuple[Float[np.ndarray, 'n d'], Float[np.ndarray, 'm d']]:
  """Both without what pictures of other classes have in common."""
  mean = there.mean(0)
  _, _, components = np.linalg.svd(there - mean, full_matrices=False)
  components = components[:_COMMON]

  def rest(rows: Float[np.ndarray, 'k d']) -> Float[np.ndarray, 'k d']:
    rows = rows - mean
    rows = rows - (rows @ components.T) @ components
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)

  return rest(here), rest(there)


def _correlations(
  here: Float[np.ndarray, 'n d'],
  there: Float[np.ndarray, 'm d'],
  compared: Int[np.ndarray, ' c'],
) -> tuple[Float[np.ndarray, ' n'], Float[np.ndarray, ' m']]:
  """How much of what the most alike pictures share is in each picture, of the
  class and of others.

  Args:
    here: the pictures of the class.
    there: those of others.
    compared: the numbers of those among which an overlay is looked for.
  """
  some = here[compared]
  likeness = some @ some.T
  np.fill_diagonal(likeness, -1)
  nearest = np.sort(likeness, axis=1)[:, -_NEIGHBORS:]
  first = np.argmax(nearest.mean(1))
  members = np.argsort(-likeness[first])[:_NEIGHBORS]
  chosen = np.zeros(len(some), bool)
  chosen[[first, *members]] = True
  for _ in range(_ROUNDS):
    values = _with_total(some, some[chosen].sum(0), chosen)
    chosen = values > 0.5 * np.sort(values)[-_NEIGHBORS]
  total = some[chosen].sum(0)
  is_chosen = np.zeros(len(here), bool)
  is_chosen[compared[chosen]] = True
  return (
    _with_total(here, total, is_chosen),
    _with_total(there, total, np.zeros(len(there), bool)),
  )


def _with_total(
  rows: Float[np.ndarray, 'k d'],
  total: Float[np.ndarray, ' d'],
  is_in_it: Bool[np.ndarray, ' k'],
) -> Float[np.ndarray, ' k']:
  """The correlation of each row with the sum of others, from 0 to 1.

  Args:
    rows: of length 1.
    total: the sum.
    is_in_it: whether a row is part of the sum; it is then taken out for itself.
  """
  products = rows @ total
  square = float(total @ total)
  # Of the rest: total - row.
  products = products - is_in_it
  squares = square - 2 * is_in_it * products - is_in_it
  length = np.sqrt(np.maximum(squares, 1e-6))
  return np.clip(products / length, 0, 1)
