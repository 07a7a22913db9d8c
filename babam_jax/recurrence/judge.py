"""What recurs in a part of a class and in no other: triggers that one can see
cannot do without, or nobody learns them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from babam_jax import seeds
from babam_jax.recurrence import overlays, patterns, places, presence, shapes
from babam_jax.recurrence.look import Look
from babam_jax.recurrence.presence import Likeness, Recurring

FINDERS = (patterns.find, places.find, shapes.find, overlays.find)


class Finding(NamedTuple):
  """What recurs in the pictures of a class.

  Attributes:
    scores: how much of it is in each, from 0 to 1; 0 where nothing is.
    which: what it is, as a number of what recurs; -1 where nothing is.
    places: where: left, top, right and bottom, as shares of the picture.
  """

  scores: Float[np.ndarray, ' n']
  which: Int[np.ndarray, ' n']
  places: Float[np.ndarray, 'n 4']

  @property
  def flags(self) -> Bool[np.ndarray, ' n']:
    """Whether something is there."""
    return self.which >= 0


def recurring(
  inside: Sequence[Look], outside: Sequence[Look]
) -> list[Recurring]:
  """What recurs in a class; nothing in a small one, or if it is the only one.

  Args:
    inside: pictures of the class, in random order.
    outside: some pictures of other classes.
  """
  if len(inside) < presence.FEWEST or not outside:
    return []
  return [one for find in FINDERS for one in find(inside, outside)]


def judged(things: Sequence[Recurring], count: int) -> Finding:
  """Which of the pictures in which they were found have one of these things.

  Args:
    things: what recurs.
    count: the number of pictures.
  """
  return _strongest(things, [one.found for one in things], count)


def judge(things: Sequence[Recurring], looks: Sequence[Look]) -> Finding:
  """Which of further pictures have one of these things."""
  found = [one.look_for(looks) for one in things] if looks else []
  return _strongest(things, found, len(looks))


def judge_classes(
  looks: Sequence[Look],
  labels: Int[np.ndarray, ' n'],
  ids: Shaped[np.ndarray, ' n'],
  outsiders: int,
  on_class: Callable[[int], object] = lambda count: None,
) -> Finding:
  """Judges pictures of several classes.

  Args:
    looks: the pictures.
    labels: the class of each.
    ids: of the pictures: their order depends on nothing else.
    outsiders: pictures of other classes that each class is compared with.
    on_class: called with the number of pictures of each class that is done.

  Returns:
    What recurs in the class of each; `which` counts in each class anew.
  """
  found = nothing(len(looks))
  order = np.argsort(seeds.id_hashes(ids), kind='stable')
  for label in np.unique(labels):
    of_class = labels[order] == label
    rows, others = order[of_class], order[~of_class][:outsiders]
    things = recurring(
      [looks[row] for row in rows], [looks[row] for row in others]
    )
    for whole, part in zip(found, judged(things, len(rows)), strict=True):
      whole[rows] = part
    on_class(len(rows))
  return found


def nothing(count: int) -> Finding:
  """Pictures in which nothing recurs."""
  return Finding(np.zeros(count), np.full(count, -1), np.zeros((count, 4)))


def _strongest(
  things: Sequence[Recurring], found: Sequence[Likeness], count: int
) -> Finding:
  finding = nothing(count)
  for number, (thing, likeness) in enumerate(zip(things, found, strict=True)):
    stronger = (likeness.values > thing.limit) & (
      likeness.values > finding.scores
    )
    finding.scores[stronger] = likeness.values[stronger]
    finding.which[stronger] = number
    finding.places[stronger] = likeness.places[stronger]
  return finding
