"""Whether something is in some pictures of a class and not in the others, or in
all of them more or less.

A trigger is in a picture or is not. A person's features, a background or a
uniform are more or less alike. So of the likenesses with a trigger few lie in
the middle.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from babam_jax.recurrence.look import Look

FEWEST = 5  # pictures that have it
LEAST_SHARE = 0.02  # of the class
LARGEST_SHARE = 0.6  # of the class: beyond, it is the nature of the class
_FEW = 5  # with so many pictures, margins are twice as wide
_ODD = 0.01  # of the pictures of other classes
_BETWEEN = 0.12  # of those that have it, at most so many lie around the limit


class Likeness(NamedTuple):
  """How much of something is in pictures, and where.

  Attributes:
    values: from 0 to 1.
    places: left, top, right and bottom, as shares of the picture.
  """

  values: Float[np.ndarray, ' n']
  places: Float[np.ndarray, 'n 4']


class Recurring(NamedTuple):
  """Something that recurs in a part of a class.

  Attributes:
    kind: 'pattern', 'place', 'shape' or 'overlay'.
    limit: the likeness above which a picture has it.
    found: the likeness of each picture of the class that was looked at.
    look_for: gives the likeness of further pictures.
  """

  kind: str
  limit: float
  found: Likeness
  look_for: Callable[[Sequence[Look]], Likeness]


def enough(count: int) -> float:
  """How many of so many pictures must have it, at least."""
  return max(FEWEST, LEAST_SHARE * count)


def limit(
  inside: Float[np.ndarray, ' n'],
  outside: Float[np.ndarray, ' m'],
  limits: Float[np.ndarray, ' k'],
  margin: float,
) -> float | None:
  """The likeness above which a picture has it; None if there is no such limit.

  Args:
    inside: the likeness of each picture of the class.
    outside: that of pictures of other classes; all are below, and nearly all by
      half the margin.
    limits: what is tried, from low to high; of those that divide, the ones with
      the fewest pictures around them are taken, of these the one in the middle.
    margin: how far from the limit few pictures may lie, if very many have it
      and have it not; farther, if few do: gaps between a few are chance.
  """
  dividing: dict[float, int] = {}
  for tried in limits:
    above = (inside > tried).sum()
    fewer = max(1, min(above, len(inside) - above))
    wide = margin * (1 + _FEW / fewer)
    between = (np.abs(inside - tried) <= wide).sum()
    if (
      enough(len(inside)) <= above <= LARGEST_SHARE * len(inside)
      and between <= _BETWEEN * above
      and outside.max(initial=0) < tried
      and (outside > tried - wide / 2).sum() <= _ODD * len(outside)
    ):
      dividing[float(tried)] = int(between)
  if not dividing:
    return None
  fewest = min(dividing.values())
  best = [tried for tried, count in dividing.items() if count == fewest]
  return best[len(best) // 2]


def recurring(
  kind: str,
  found: Likeness,
  look_for: Callable[[Sequence[Look]], Likeness],
  outside: Sequence[Look],
  limits: Float[np.ndarray, ' k'],
  margin: float,
) -> list[Recurring]:
  """What a finder has proposed, if it recurs in a part of the class alone.

  Args:
    kind: of what it is.
    found: the likeness of the pictures of the class.
    look_for: gives that of others.
    outside: pictures of other classes.
    limits: as `limit` has it.
    margin: as `limit` has it.

  Returns:
    One, or none.
  """
  nowhere = np.zeros(0)
  if limit(found.values, nowhere, limits, margin) is None:
    return []  # whatever the others are: most proposals end here
  there = look_for(outside)
  divides = limit(found.values, there.values, limits, margin)
  return [] if divides is None else [Recurring(kind, divides, found, look_for)]
