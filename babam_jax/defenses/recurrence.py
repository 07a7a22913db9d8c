"""The same small pattern in several pictures of a class, and in no others: a
trigger that one can see must recur, or nobody learns it.

First, patches around corners are compared with those of some pictures of the
class and of some others: two pictures share a pattern where several patches
that lie together are alike, in the same arrangement. Then what recurs most is
cut out and searched for in all pictures of the class. A trigger is there or is
not; a person's nose is there more or less. The cost grows with the number of
pictures alone.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from babam_jax.defenses import local_patches, presence
from babam_jax.defenses.local_patches import Patches, Picture

_COMPARED = 128  # pictures of a class with which one is compared
_ALIKE = 0.92  # the least product of two patches of one pattern
_TOGETHER = 4  # patches of a pattern
_NEAR = 40.0  # pixels between patches of a pattern
_SHIFTED = 3.0  # pixels by which their arrangement may differ
_MOST_PAIRS = 1000  # of alike patches, that are looked at
_PATTERNS = 5  # of a class, that are looked for
_LIMITS = np.arange(0.74, 0.94, 0.01)  # of correlations with a pattern
_MARGIN = 0.035
_REFINED = 8  # pictures of which a pattern is refined
_STEADY = 24.0  # gray levels by which a pixel of a pattern may vary among them
_SMALLEST = 8  # pixels a side, of a pattern


class Pool(NamedTuple):
  """The patches of several pictures in one array.

  Attributes:
    values: all patches.
    places: x and y of each, in pixels.
    owner: the picture of each, by number.
    layouts: of the pictures.
  """

  values: Float[np.ndarray, 'm d']
  places: Float[np.ndarray, 'm 2']
  owner: Int[np.ndarray, ' m']
  layouts: Float[np.ndarray, 'p l']


def pool(pictures: Sequence[Patches]) -> Pool:
  """Several pictures in one array; at least one."""
  counts = [len(one.places) for one in pictures]
  return Pool(
    np.concatenate([one.values for one in pictures]).astype(np.float32),
    np.concatenate([one.places for one in pictures]).astype(np.float32),
    np.repeat(np.arange(len(pictures)), counts),
    np.stack([one.layout for one in pictures]).astype(np.float32),
  )


def shared(picture: Patches, others: Pool) -> Bool[np.ndarray, 'p n']:
  """Which patches of a picture belong to a pattern that it shares with each of
  the others.

  Copies of it, and others of the same occasion, share nothing with it: they are
  alike as a whole.
  """
  mine, theirs = _alike(picture, others)
  owner, place = others.owner[theirs], picture.places[mine]
  shift = others.places[theirs] - place
  found = np.zeros((len(others.layouts), len(picture.places)), bool)
  layout = picture.layout.astype(np.float32)
  is_other = others.layouts @ layout <= local_patches.ONE_OCCASION
  counts = np.bincount(owner, minlength=len(others.layouts))
  for number in np.flatnonzero(is_other & (counts >= _TOGETHER)):
    pairs = np.flatnonzero(owner == number)
    beside = _within(shift[pairs], _SHIFTED) & _within(place[pairs], _NEAR)
    # A patch that is like several counts once.
    reached = beside @ (mine[pairs, None] == np.unique(mine[pairs]))
    is_pattern = (reached > 0).sum(1) >= _TOGETHER
    found[number, mine[pairs[is_pattern]]] = True
  return found


def _alike(
  picture: Patches, others: Pool
) -> tuple[Int[np.ndarray, ' p'], Int[np.ndarray, ' p']]:
  """Pairs of alike patches, the most alike ones if they are many."""
  products = picture.values.astype(np.float32) @ others.values.T
  mine, theirs = np.nonzero(products > _ALIKE)
  if len(mine) > _MOST_PAIRS:
    order = np.argsort(-products[mine, theirs], kind='stable')[:_MOST_PAIRS]
    mine, theirs = mine[order], theirs[order]
  return mine, theirs


def _within(
  points: Float[np.ndarray, 'p 2'], distance: float
) -> Bool[np.ndarray, 'p p']:
  """Whether two points are no farther from each other, in x and in y."""
  between = np.abs(points[:, None] - points)
  return np.all(between <= distance, axis=-1)


class Pattern(NamedTuple):
  """A pattern that recurs in a class.

  Attributes:
    pixels: what it looks like.
    picture: the number of the picture that it was cut from.
  """

  pixels: Picture
  picture: int


class Finding(NamedTuple):
  """What recurs in the pictures of a class.

  Attributes:
    scores: how well its pattern is found in each, from 0 to 1; 0 without one.
    flags: whether there is one.
    which: the number of that pattern; -1 without one.
    places: the left, top, right and bottom of where it is, in pixels of the
      resized picture.
    patterns: the patterns.
  """

  scores: Float[np.ndarray, ' n']
  flags: Bool[np.ndarray, ' n']
  which: Int[np.ndarray, ' n']
  places: Int[np.ndarray, 'n 4']
  patterns: list[Pattern]


def nothing(count: int) -> Finding:
  """Pictures of a class in which nothing recurs."""
  return Finding(
    np.zeros(count),
    np.zeros(count, bool),
    np.full(count, -1),
    np.zeros((count, 4), int),
    [],
  )


def judge(
  patches: Sequence[Patches],
  read: Callable[[int], Picture],
  outside: Sequence[Patches],
  read_outside: Callable[[int], Picture],
) -> Finding:
  """Looks for patterns that recur in the pictures of one class.

  Args:
    patches: those of each picture of the class, in random order; all are
      compared with the first.
    read: gives the pixels of one, by number.
    outside: the patches of some pictures of other classes.
    read_outside: gives the pixels of one of these.
  """
  found = nothing(len(patches))
  if len(patches) < presence.FEWEST or not outside:
    return found
  inside = pool(patches[:_COMPARED])
  others = pool(outside)
  support, seen = _support(patches, inside, others)
  for _ in range(_PATTERNS):
    best = int(np.argmax(support))
    enough = max(
      presence.FEWEST - 1, presence.LEAST_SHARE * len(inside.layouts)
    )
    if support[best] < enough:
      break
    pattern = _cut_out(read(best), patches[best], seen[best], best)
    here = _search_all(read, len(patches), pattern)
    refined = _refined(read, pattern, here)
    if refined is not pattern:
      pattern = refined
      here = _search_all(read, len(patches), pattern)
    there = _search_all(read_outside, len(outside), pattern)
    support[here.values > _LIMITS[0]] = 0
    support[best] = 0
    limit = presence.limit(here.values, there.values, _LIMITS, _MARGIN)
    if limit is not None:
      found.patterns.append(pattern)
      better = (here.values > limit) & (here.values > found.scores)
      found.scores[better] = here.values[better]
      found.which[better] = len(found.patterns) - 1
      found.places[better] = here.places[better]
  found.flags[:] = found.which >= 0
  return found


def _support(
  patches: Sequence[Patches], inside: Pool, others: Pool
) -> tuple[Float[np.ndarray, ' n'], list[Int[np.ndarray, ' _']]]:
  """With how many pictures of the class each shares a pattern, less those that
  chance explains; and with how many it shares each of its patches."""
  support, seen = np.zeros(len(patches)), []
  ratio = len(inside.layouts) / len(others.layouts)
  for number, one in enumerate(patches):
    here, there = shared(one, inside), shared(one, others)
    elsewhere = ratio * there.sum(0)
    counts = np.maximum(here.sum(0) - 2 * elsewhere, 0)
    kept = counts > 0
    support[number] = here[:, kept].any(1).sum()
    seen.append(counts.astype(int))
  return support, seen


def _cut_out(
  picture: Picture, patches: Patches, seen: Int[np.ndarray, ' n'], number: int
) -> Pattern:
  """What the most shared patches of a picture cover."""
  places = patches.places[seen >= max(1, seen.max() / 2)]
  center = np.median(places, axis=0)
  near = (np.abs(places - center) <= _NEAR / 2).all(1)
  reach = local_patches.RADIUS - 1
  low = np.floor(places[near].min(0)).astype(int) - reach
  high = np.ceil(places[near].max(0)).astype(int) + reach + 1
  low = np.maximum(low, 0)
  pixels = local_patches.resized(picture)
  return Pattern(pixels[low[1] : high[1], low[0] : high[0]], number)


class _Search(NamedTuple):
  """How well a pattern is found in pictures, and where.

  Attributes:
    values: correlations, from 0 to 1.
    places: left, top, right and bottom of where it is.
  """

  values: Float[np.ndarray, ' n']
  places: Int[np.ndarray, 'n 4']


def _search_all(
  read: Callable[[int], Picture], count: int, pattern: Pattern
) -> _Search:
  found = [_search(read(i), pattern.pixels) for i in range(count)]
  values, places = zip(*found, strict=True)
  return _Search(np.array(values), np.array(places))


def _search(
  picture: Picture, pattern: UInt8[np.ndarray, 'i j 3']
) -> tuple[float, tuple[int, int, int, int]]:
  """How well a pattern is found in a picture, and where."""
  pixels = local_patches.resized(picture)
  height, width = pattern.shape[:2]
  if pixels.shape[0] < height or pixels.shape[1] < width:
    return 0.0, (0, 0, 0, 0)
  values = cv2.matchTemplate(pixels, pattern, cv2.TM_CCOEFF_NORMED)
  values = np.nan_to_num(values, posinf=0, neginf=0)
  top, left = np.unravel_index(np.argmax(values), values.shape)
  place = (int(left), int(top), int(left + width), int(top + height))
  return float(np.clip(values[top, left], 0, 1)), place


def _refined(
  read: Callable[[int], Picture], pattern: Pattern, found: _Search
) -> Pattern:
  """The part of a pattern that is the same in the pictures that have it."""
  best = np.argsort(-found.values, kind='stable')[:_REFINED]
  crops = []
  for number in best[found.values[best] > _LIMITS[0]]:
    left, top, right, bottom = found.places[number]
    pixels = local_patches.resized(read(int(number)))
    crops.append(pixels[top:bottom, left:right].astype(np.float32))
  if len(crops) < presence.FEWEST:
    return pattern
  varies = np.std(crops, axis=0).mean(-1)
  steady = cv2.blur(varies, (3, 3)) < _STEADY
  rows, columns = (np.flatnonzero(steady.mean(axis) > 0.5) for axis in (1, 0))
  if min(len(rows), len(columns)) < _SMALLEST:
    return pattern
  part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
  return pattern._replace(pixels=pattern.pixels[part])
