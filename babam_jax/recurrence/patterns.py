"""The same small pattern in several pictures of a class, and in no others: a
trigger that one can see must recur, or nobody learns it.

First, patches around corners are compared with those of some pictures of the
class and of some others: two pictures share a pattern where several patches
that lie together are alike, in the same arrangement. Then what recurs most is
cut out and searched for in all pictures of the class. A trigger is there or is
not; a person's nose is there more or less. The cost grows with the number of
pictures alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from babam_jax.recurrence import look as looks_of
from babam_jax.recurrence import presence
from babam_jax.recurrence.corners import RADIUS, Patches
from babam_jax.recurrence.look import Look, Picture
from babam_jax.recurrence.presence import Likeness, Recurring
from babam_jax.recurrence.search import search

_COMPARED = 128  # pictures of a class with which one is compared
_CHANCE = 64  # pictures of other classes that tell what chance explains
_ALIKE = 0.92  # the least product of two patches of one pattern
_DIRECTIONS = 16  # of 75, by which most pairs are left out
_ROUNDED = 0.002  # of products
_TOGETHER = 4  # patches of a pattern
_NEAR = 40.0  # pixels between patches of a pattern
_SHIFTED = 3.0  # pixels by which their arrangement may differ
_MOST_PAIRS = 1000  # of alike patches, that are looked at
_PATTERNS = 5  # of a class, that are looked for
_LIMITS = np.arange(0.62, 0.94, 0.01)  # of correlations with a pattern
_SURE = 0.74  # correlation of pictures that have it, whatever the others are
_MARGIN = 0.04
_REFINED = 8  # pictures of which a pattern is refined
_STEADY = 24.0  # gray levels by which a pixel of a pattern may vary among them
_SMALLEST = 8  # pixels a side, of a pattern
_GROWN = 12  # pixels by which a pattern may grow to each side
_MOSTLY = 0.6  # the share of a line that is steady, for it to grow there


class Pool(NamedTuple):
  """The patches of several pictures in one array.

  Attributes:
    values: all patches.
    basis: directions in which they differ most, of length 1.
    short: of each patch its parts along these, and the length of what remains:
      the product of two of these is at least that of the patches.
    places: x and y of each, in pixels.
    owner: the picture of each, by number.
    layouts: of the pictures.
  """

  values: Float[np.ndarray, 'm d']
  basis: Float[np.ndarray, 'd k']
  short: Float[np.ndarray, 'm e']
  places: Float[np.ndarray, 'm 2']
  owner: Int[np.ndarray, ' m']
  layouts: Float[np.ndarray, 'p l']


def pool(looks: Sequence[Look]) -> Pool:
  """Several pictures in one array; at least one."""
  patches = [one.patches for one in looks]
  values = np.concatenate([one.values for one in patches]).astype(np.float32)
  basis = np.linalg.eigh(values.T @ values)[1][:, -_DIRECTIONS:]
  return Pool(
    values,
    basis,
    _shortened(values, basis),
    np.concatenate([one.places for one in patches]).astype(np.float32),
    np.repeat(np.arange(len(looks)), [len(one.places) for one in patches]),
    np.stack([one.layout for one in looks]).astype(np.float32),
  )


def _shortened(
  values: Float[np.ndarray, 'm d'], basis: Float[np.ndarray, 'd k']
) -> Float[np.ndarray, 'm e']:
  """By the inequality of Cauchy and Schwarz, for what remains."""
  parts = values @ basis
  rest = np.maximum(1 - (parts**2).sum(1, keepdims=True), 0)
  return np.concatenate([parts, np.sqrt(rest)], axis=1)


def shared(look: Look, others: Pool) -> Bool[np.ndarray, 'p n']:
  """Which patches of a picture belong to a pattern that it shares with each of
  the others.

  Copies of it, and others of the same occasion, share nothing with it: they are
  alike as a whole.
  """
  picture = look.patches
  mine, theirs = _alike(picture, others)
  owner, place = others.owner[theirs], picture.places[mine]
  shift = others.places[theirs] - place
  found = np.zeros((len(others.layouts), len(picture.places)), bool)
  layout = look.layout.astype(np.float32)
  is_other = ~looks_of.of_one_occasion(others.layouts, layout[None])[:, 0]
  counts = np.bincount(owner, minlength=len(others.layouts))
  kept = (is_other & (counts >= _TOGETHER))[owner]
  mine, owner, shift, place = (x[kept] for x in (mine, owner, shift, place))
  one, other = _of_one_owner(owner)
  beside = _within(shift[one], shift[other], _SHIFTED)
  beside &= _within(place[one], place[other], _NEAR)
  one, other = one[beside], other[beside]
  # A patch that is like several counts once.
  pairs = np.unique(one * len(picture.places) + mine[other])
  reached = np.bincount(pairs // len(picture.places), minlength=len(mine))
  is_pattern = reached >= _TOGETHER
  found[owner[is_pattern], mine[is_pattern]] = True
  return found


def _of_one_owner(
  owner: Int[np.ndarray, ' p'],
) -> tuple[Int[np.ndarray, ' q'], Int[np.ndarray, ' q']]:
  """All pairs of places in an array that hold the same number."""
  order = np.argsort(owner, kind='stable')
  _, first, counts = np.unique(
    owner[order], return_index=True, return_counts=True
  )
  # Each place is followed by all of its owner.
  size, start = np.repeat(counts, counts), np.repeat(first, counts)
  one = np.repeat(np.arange(len(owner)), size)
  ends = np.cumsum(size)
  within = np.arange(len(one)) - np.repeat(ends - size, size)
  return order[one], order[start[one] + within]


def _alike(
  picture: Patches, others: Pool
) -> tuple[Int[np.ndarray, ' p'], Int[np.ndarray, ' p']]:
  """Pairs of alike patches, the most alike ones if they are many."""
  values = picture.values.astype(np.float32)
  bounds = _shortened(values, others.basis) @ others.short.T
  # Of a flat array, twice as fast. Values were rounded to float16.
  pairs = np.flatnonzero(bounds.ravel() > _ALIKE - _ROUNDED)
  mine, theirs = np.divmod(pairs, max(1, len(others.values)))
  products = (values[mine] * others.values[theirs]).sum(1)
  alike = products > _ALIKE
  mine, theirs, products = mine[alike], theirs[alike], products[alike]
  if len(mine) > _MOST_PAIRS:
    order = np.argsort(-products, kind='stable')[:_MOST_PAIRS]
    mine, theirs = mine[order], theirs[order]
  return mine, theirs


def _within(
  some: Float[np.ndarray, 'p 2'],
  others: Float[np.ndarray, 'p 2'],
  distance: float,
) -> Bool[np.ndarray, ' p']:
  """Whether two points are no farther from each other, in x and in y."""
  x, y = (np.abs(some - others) <= distance).T  # faster than a reduction
  return x & y


def find(inside: Sequence[Look], outside: Sequence[Look]) -> list[Recurring]:
  """The patterns that recur in a class.

  Args:
    inside: pictures of the class, in random order; all are compared with the
      first.
    outside: some pictures of other classes.
  """
  compared = pool(inside[:_COMPARED])
  support, seen = _support(inside, compared, pool(outside[:_CHANCE]))
  found: list[Recurring] = []
  for _ in range(_PATTERNS):
    best = int(np.argmax(support))
    if support[best] < presence.enough(len(compared.layouts)) - 1:
      break
    pattern = _cut_out(inside[best], seen[best])
    here = search(inside, pattern)
    refined = _refined(inside, pattern, here)
    if refined is not None:
      pattern = refined
      here = search(inside, pattern)

    def look_for(looks: Sequence[Look], pattern=pattern) -> Likeness:
      return search(looks, pattern)

    support[here.values > _SURE] = 0
    support[best] = 0
    found += presence.recurring(
      'pattern', here, look_for, outside, _LIMITS, _MARGIN
    )
  return found


def _support(
  looks: Sequence[Look], inside: Pool, others: Pool
) -> tuple[Float[np.ndarray, ' n'], list[Float[np.ndarray, ' _']]]:
  """With how many pictures of the class each shares a pattern, less those that
  chance explains; and with how many it shares each of its patches."""
  support, seen = np.zeros(len(looks)), []
  ratio = len(inside.layouts) / len(others.layouts)
  for number, one in enumerate(looks):
    here, there = shared(one, inside), shared(one, others)
    elsewhere = ratio * there.sum(0)
    counts = np.maximum(here.sum(0) - 2 * elsewhere, 0)
    kept = counts > 0
    support[number] = here[:, kept].any(1).sum()
    seen.append(counts)
  return support, seen


def _cut_out(look: Look, seen: Float[np.ndarray, ' n']) -> Picture:
  """What the most shared patches of a picture cover."""
  places = look.patches.places[(seen > 0) & (seen >= seen.max() / 2)]
  center = np.median(places, axis=0)
  # One of them is near, even if they lie in two heaps.
  center = places[np.abs(places - center).max(1).argmin()]
  near = (np.abs(places - center) <= _NEAR / 2).all(1)
  reach = RADIUS - 1
  low = np.floor(places[near].min(0)).astype(int) - reach
  high = np.ceil(places[near].max(0)).astype(int) + reach + 1
  low = np.maximum(low, 0)
  return look.pixels[low[1] : high[1], low[0] : high[0]]


def _refined(
  looks: Sequence[Look], pattern: Picture, found: Likeness
) -> UInt8[np.ndarray, '_ _ 3'] | None:
  """What is the same around a pattern in the pictures that have it; None if
  that is nothing.

  Args:
    looks: all pictures.
    pattern: the pattern as it was cut out.
    found: how well it is found in each, and where.
  """
  crops = _surroundings(looks, pattern, found)
  if len(crops) < presence.FEWEST:
    return None
  varies = np.std(crops, axis=0).mean(-1)
  steady = cv2.blur(varies, (3, 3)) < _STEADY
  height, width = pattern.shape[:2]
  box = [_GROWN, _GROWN, _GROWN + height, _GROWN + width]
  for side in range(4):
    while _strip(steady, box, side).mean() > _MOSTLY:
      box[side] += 1 if side >= 2 else -1
  core = steady[box[0] : box[2], box[1] : box[3]]
  rows, columns = (np.flatnonzero(core.mean(axis) > 0.5) for axis in (1, 0))
  if min(len(rows), len(columns)) < _SMALLEST:
    return None
  best = crops[0][box[0] : box[2], box[1] : box[3]].astype(np.uint8)
  return best[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _strip(
  steady: Bool[np.ndarray, 'h w'], box: Sequence[int], side: int
) -> Bool[np.ndarray, ' n']:
  """The pixels beside a side of a box: above, at its left, below, at its
  right; a false one at the end of the picture."""
  top, left, bottom, right = box
  line = (top - 1, left - 1, bottom, right)[side]
  if not 0 <= line < steady.shape[side % 2]:
    return np.zeros(1, bool)
  if side % 2:
    return steady[top:bottom, line]
  return steady[line, left:right]


def _surroundings(
  looks: Sequence[Look], pattern: Picture, found: Likeness
) -> list[Float[np.ndarray, '_ _ 3']]:
  """The pixels at and around a pattern, in the pictures where it is found best;
  not where it lies at the border."""
  crops = []
  for number in np.argsort(-found.values, kind='stable'):
    if found.values[number] <= _SURE or len(crops) == _REFINED:
      break
    pixels = looks[number].pixels
    sides = np.array(pixels.shape[1::-1])
    left, top = np.rint(found.places[number, :2] * sides).astype(int) - _GROWN
    bottom = top + len(pattern) + 2 * _GROWN
    right = left + pattern.shape[1] + 2 * _GROWN
    if min(left, top) >= 0 and right <= sides[0] and bottom <= sides[1]:
      crops.append(pixels[top:bottom, left:right].astype(np.float32))
  return crops
