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

import numpy as np
from jaxtyping import Bool, Float, Int

from babam_jax.recurrence import presence
from babam_jax.recurrence.look import Look, of_one_occasion
from babam_jax.recurrence.presence import Likeness, Recurring

_COMPARED = 128  # pictures of a class among which an overlay is looked for
_COMMON = 12  # principal components that are removed
_NEIGHBORS = 4  # pictures whose mean is the first guess of an overlay
_ROUNDS = 3  # in which the guess is refined
_LIMITS = np.arange(0.15, 0.8, 0.01)
_MARGIN = 0.065


def find(inside: Sequence[Look], outside: Sequence[Look]) -> list[Recurring]:
  """The overlays that recur in a class.

  Args:
    inside: pictures of the class, in random order; an overlay is looked for
      among the first.
    outside: some pictures of other classes.
  """
  compared = _occasions(_stacked(inside[:_COMPARED], 'layout'))
  if len(compared) < presence.FEWEST:
    return []
  found: list[Recurring] = []
  for scale in ('fine', 'coarse'):
    common = _common(_stacked(outside, scale))
    here = common.taken_from(_stacked(inside, scale))
    chosen = _chosen(here[compared])
    total = here[compared][chosen].sum(0)
    is_in_it = np.zeros(len(here), bool)
    is_in_it[compared[chosen]] = True
    values = _with_total(here, total, is_in_it)

    def look_for(
      looks: Sequence[Look], scale=scale, common=common, total=total
    ) -> Likeness:
      rows = common.taken_from(_stacked(looks, scale))
      values = _with_total(rows, total, np.zeros(len(rows), bool))
      return _everywhere(values)

    found += presence.recurring(
      'overlay', _everywhere(values), look_for, outside, _LIMITS, _MARGIN
    )
  return found


def _everywhere(values: Float[np.ndarray, ' n']) -> Likeness:
  return Likeness(values, np.tile([0.0, 0.0, 1.0, 1.0], (len(values), 1)))


def _occasions(
  layouts: Float[np.ndarray, 'k l'],
) -> Int[np.ndarray, ' c']:
  """One picture of each occasion: copies, and several of one scene, are alike
  as a whole."""
  same = of_one_occasion(layouts, layouts)
  chosen: list[int] = []
  for number in range(len(layouts)):
    if not same[number, chosen].any():
      chosen.append(number)
  return np.array(chosen)


def _stacked(pictures: Sequence[Look], name: str) -> Float[np.ndarray, 'n d']:
  return np.stack([getattr(one, name) for one in pictures]).astype(np.float32)


class _Common(NamedTuple):
  """What pictures of other classes have in common: their mean, and their
  principal components, of length 1."""

  mean: Float[np.ndarray, ' d']
  components: Float[np.ndarray, 'c d']

  def taken_from(
    self, rows: Float[np.ndarray, 'k d']
  ) -> Float[np.ndarray, 'k d']:
    """What is left of pictures, of length 1."""
    rows = rows - self.mean
    rows = rows - (rows @ self.components.T) @ self.components
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _common(rows: Float[np.ndarray, 'm d']) -> _Common:
  mean = rows.mean(0)
  return _Common(mean, _components(rows - mean))


def _components(
  rows: Float[np.ndarray, 'm d'],
) -> Float[np.ndarray, 'c d']:
  """The principal components of centered rows, of length 1. Rows are fewer
  than columns: their products are decomposed."""
  values, vectors = np.linalg.eigh(rows @ rows.T)
  kept = values > 1e-6 * max(values[-1], 1e-30)
  chosen = np.flatnonzero(kept)[-_COMMON:]
  found = vectors[:, chosen].T @ rows
  return found / np.sqrt(values[chosen])[:, None]


def _chosen(some: Float[np.ndarray, 'c d']) -> Bool[np.ndarray, ' c']:
  """The pictures with the overlay, as far as they are sure: the most alike
  ones, and those that are like these."""
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
  return chosen


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
