"""What recurs in a part of one class of an untrusted folder, and in no other:
triggers that one can see.

A class is compared with pictures of others, its outsiders, which are chosen and
looked at once. Of a large class, some pictures are looked at; what recurs in
these is then looked for in all others.
"""

import concurrent.futures
import functools
import heapq
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from babam_jax import seeds
from babam_jax.recurrence import judge, presence
from babam_jax.recurrence.look import Look, look
from babam_jax.sanitizer import folder, picture
from babam_jax.sanitizer.folder import ClassFolder, Entry
from babam_jax.sanitizer.names import printable

_OUTSIDERS = 192  # pictures of all classes together
_COMPARED = 160  # pictures of other classes with which a class is compared
_SAMPLE = 400  # pictures of a class that are compared with each other

Read = Callable[[Entry], AbstractContextManager[picture.Read]]
Pool = concurrent.futures.ThreadPoolExecutor


class Recurs(NamedTuple):
  """What a picture shares with some others of its class.

  Attributes:
    kind: 'pattern', 'place', 'shape' or 'overlay' (`recurrence.presence`).
    number: of what is shared; from 1 in each class.
    likeness: how much of it is in the picture, from 0 to 1.
    place: left, top, right and bottom, as shares of the picture.
  """

  kind: str
  number: int
  likeness: float
  place: tuple[float, ...]


def sample(found: ClassFolder) -> set[pathlib.PurePosixPath]:
  """The pictures of a class that are compared with each other: all, or some at
  random; none of a class in which nothing can recur."""
  if len(found.entries) < presence.FEWEST:
    return set()
  return {entry.path for entry in _some(found.entries, _SAMPLE)}


def _some(entries: Sequence[Entry], count: int) -> list[Entry]:
  """Some of the files that may be pictures, in random order, which depends on
  nothing but their names."""
  usable = [entry for entry in entries if not entry.fault and not entry.litter]
  names = np.array([printable(entry.path) for entry in usable], str)
  order = np.argsort(seeds.id_hashes(names), kind='stable')[:count]
  return [usable[place] for place in order]


def _look(read: Read, entry: Entry) -> Look | None:
  """None of what cannot be judged."""
  try:
    with read(entry) as found:
      return look(found.pixels)
  except picture.UnjudgedError:
    return None


class Outsiders:
  """Pictures of all classes of a folder, as many of each.

  Args:
    source: the folder.
    read: reads one of its pictures.
    pool: threads that read.
  """

  def __init__(self, source: pathlib.Path, read: Read, pool: Pool):
    self._source, self._read, self._pool = source, read, pool

  def of(self, name: str) -> list[Look]:
    """Pictures of other classes.

    Args:
      name: the class that they are compared with.
    """
    others = [
      one
      for other, looks in self._looks.items()
      if other != name
      for one in looks
    ]
    return others[:_COMPARED]

  @functools.cached_property
  def _looks(self) -> dict[str, list[Look]]:
    """Made when it is needed first: in a folder of small classes it is not."""
    chosen = list(self._chosen())
    looks = self._pool.map(lambda of: _look(self._read, of[1]), chosen)
    found: dict[str, list[Look]] = {}
    for (name, _), one in zip(chosen, looks, strict=True):
      if one is not None:
        found.setdefault(name, []).append(one)
    return found

  def _chosen(self) -> Iterator[tuple[str, Entry]]:
    """As many of each class; of very many classes, some."""
    names = folder.names(self._source)
    hashed = ((seeds.name_hash(printable(name)), name) for name in names)
    some = {name for _, name in heapq.nsmallest(_OUTSIDERS, hashed)}
    each = -(-_OUTSIDERS // max(1, len(some)))
    chosen = (name for name in names if name in some)
    for found in folder.read(self._source, chosen):
      for entry in _some(found.entries, each):
        yield found.name, entry


def judge_class(
  found: ClassFolder,
  looks: Mapping[pathlib.PurePosixPath, Look],
  outsiders: Outsiders,
  read: Read,
  pool: Pool,
  check: Callable[[], object] = lambda: None,
) -> dict[pathlib.PurePosixPath, Recurs]:
  """What recurs in a class, by the pictures in which it is.

  Args:
    found: the class.
    looks: its `sample`, as far as it can be read.
    outsiders: pictures of other classes.
    read: reads a picture of the class.
    pool: threads that read.
    check: is called before each picture; may raise, to end the work.
  """
  every_entry = _some(found.entries, len(found.entries))
  order = [e.path for e in every_entry[:_SAMPLE] if e.path in looks]
  if len(order) < presence.FEWEST:
    return {}
  inside = [looks[path] for path in order]
  things = judge.recurring(inside, outsiders.of(found.name))
  if not things:
    return {}

  def told(finding: judge.Finding, place: int) -> Recurs | None:
    number = int(finding.which[place])
    if number < 0:
      return None
    return Recurs(
      things[number].kind,
      number + 1,
      float(finding.scores[place]),
      tuple(finding.places[place].tolist()),
    )

  def judge_later(entry: Entry) -> Recurs | None:
    check()
    one = _look(read, entry)
    return None if one is None else told(judge.judge(things, [one]), 0)

  finding = judge.judged(things, len(order))
  rest = every_entry[_SAMPLE:]
  every = [told(finding, place) for place in range(len(order))]
  every += pool.map(judge_later, rest)
  paths = order + [entry.path for entry in rest]
  return {
    path: one for path, one in zip(paths, every, strict=True) if one is not None
  }
