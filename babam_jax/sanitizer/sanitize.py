"""Makes a folder that can be trained on from an untrusted one.

Algorithm 2 without a training: the PIRM scores every picture, flagged ones are
left out or receive Algorithm 1's noise at their own resolution, those with a
trigger that recurs in their class are left out, the rest stays byte for byte.
Classes are treated one by one, small ones scored together, with a few hundred
pictures in memory.
"""

import concurrent.futures
import functools
import itertools
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import threadpoolctl

from babam_jax import cpu
from babam_jax.defenses import any_size, by_kind, pirm
from babam_jax.progress import progress_bar
from babam_jax.sanitizer import folder, recurring
from babam_jax.sanitizer.one_class import (
  IN_MEMORY,
  OneClass,
  Seen,
  Settings,
  reading,
)
from babam_jax.sanitizer.output import Output
from babam_jax.sanitizer.record import PERTURBATION, VISIBLE, Record

ACTIONS = ('drop', 'perturb', 'report')
DETECTORS = (PERTURBATION, VISIBLE)
VISIBLE_ACTIONS = (by_kind.DROP, *by_kind.CHANGES)

_T = TypeVar('_T')
Result = concurrent.futures.Future[list[Record]]


def run(
  source: pathlib.Path,
  inventory: folder.Inventory,
  output: Output,
  model: pirm.Pirm | None,
  settings: Settings,
  detectors: Sequence[str] = DETECTORS,
) -> Iterator[list[Record]]:
  """Treats class after class; yields the records of each.

  Args:
    source: the untrusted folder.
    inventory: what it holds, or a part of that.
    output: the folder that is filled; it has begun.
    model: the PIRM, if it is among the detectors.
    settings: what to do with a picture.
    detectors: of `DETECTORS`.
  """
  with (
    progress_bar(inventory.files, 'sanitizing', 'file') as bar,
    concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool,
    _beside() as beside,
    # All cores are at work: threads of products would wait for each other.
    threadpoolctl.threadpool_limits(1, 'blas'),
  ):
    outsiders = None
    if VISIBLE in detectors:
      read = functools.partial(reading, source)
      outsiders = recurring.Outsiders(source, read, pool)

    def finish(one: OneClass) -> list[Record]:
      one.look_for_what_recurs(beside.check)
      records = one.treat(output, beside.check)
      one.check_unchanged()
      output.finish_class(one.name, one.fingerprint, records)
      return records

    def begun(group: folder.Group) -> list[list[Record] | Result]:
      classes = [
        OneClass(source, one, model, outsiders, pool, settings)
        for one in folder.read(source, group.names)
      ]
      known = [output.records(one.name, one.fingerprint) for one in classes]
      if None in known:
        # All, also those that an earlier run has done: the last digit of a
        # score depends on the pictures beside it.
        _score(classes)
      return [
        beside.thread.submit(finish, one) if records is None else records
        for one, records in zip(classes, known, strict=True)
      ]

    # One core would often wait while something is looked for in a class, and
    # while pictures are written.
    for group in _one_ahead(map(begun, inventory.groups)):
      for found in group:
        records = found if isinstance(found, list) else found.result()
        bar.update(len(records))
        yield records


def judge_again(
  source: pathlib.Path, name: str, output: Output, settings: Settings
) -> None:
  """Flags also what scores above another threshold, in a class that is done.

  Args:
    source: the untrusted folder.
    name: the class.
    output: the folder that is filled.
    settings: what to do with a picture, with a lower threshold than before.
  """
  (found,) = folder.read(source, [name])
  with concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool:
    one = OneClass(source, found, None, None, pool, settings)
    known = output.records(one.name, one.fingerprint)
    assert known is not None, f'{name} is done'
    records = one.judge_again(known, output)
    one.check_unchanged()
    output.finish_class(one.name, one.fingerprint, records)
    one.remove_kept(records, output)  # last: what is written down is there


class _Beside(NamedTuple):
  """Work beside that of the main thread.

  Attributes:
    thread: does one thing after the other.
    check: raises, in the thread, once the run has ended before its time.
  """

  thread: concurrent.futures.Executor
  check: Callable[[], None]


@contextmanager
def _beside() -> Iterator[_Beside]:
  """A thread; after an error, or if the user stops the run, what it has not
  begun does not begin, and what it has begun ends soon."""
  stopped = threading.Event()

  def check() -> None:
    if stopped.is_set():
      raise concurrent.futures.CancelledError

  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    try:
      yield _Beside(thread, check)
    except BaseException:
      stopped.set()
      thread.shutdown(cancel_futures=True)
      raise


def _one_ahead(items: Iterable[_T]) -> Iterator[_T]:
  """Each once the next one has been begun."""
  before: list[_T] = []
  for item in items:
    yield from before
    before = [item]
  yield from before


def _score(classes: Sequence[OneClass]) -> None:
  """First pass: the scores of all pictures, and what is kept of them."""
  entries = ((one, entry) for one in classes for entry in one.found.entries)
  while batch := list(itertools.islice(entries, IN_MEMORY)):
    pool, model = batch[0][0].pool, batch[0][0].model
    looks = list(pool.map(lambda of: of[0].look(of[1]), batch))
    views = [one.views for one in looks if isinstance(one, Seen)]
    scores = iter(any_size.score(model, views) if model and views else ())
    for (one, entry), seen in zip(batch, looks, strict=True):
      has_score = model and isinstance(seen, Seen)
      one.add(entry, seen, float(next(scores)) if has_score else None)
