"""Makes a folder that can be trained on from an untrusted one.

Algorithm 2 without a training: the PIRM scores every picture, flagged ones
receive Algorithm 1's noise at their own resolution, those with a trigger that
recurs in their class are left out, the rest stays byte for byte. Classes are
treated one by one, small ones scored together, with a few hundred pictures in
memory.
"""

import concurrent.futures
import functools
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import threadpoolctl

from babam_jax.defenses import any_size, by_kind, pirm
from babam_jax.progress import progress_bar
from babam_jax.sanitizer import folder, recurring
from babam_jax.sanitizer.folder import ClassFolder
from babam_jax.sanitizer.one_class import OneClass, Seen, Settings, reading
from babam_jax.sanitizer.output import PERTURBATION, Output, Record

ACTIONS = ('drop', 'perturb', 'report')
VISIBLE = 'visible'
DETECTORS = (PERTURBATION, VISIBLE)
VISIBLE_ACTIONS = (by_kind.DROP, *by_kind.CHANGES)
_IN_MEMORY = 32  # pictures


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
    inventory: what it holds.
    output: the folder that is filled.
    model: the PIRM, if it is among the detectors.
    settings: what to do with a picture.
    detectors: of `DETECTORS`.
  """
  output.begin(
    inventory.fingerprints,
    ((e.path for e in found.entries) for found in folder.classes(source)),
  )
  with (
    progress_bar(inventory.files, 'sanitizing', 'file') as bar,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    _thread_beside() as beside,
    # All cores are at work: threads of products would wait for each other.
    threadpoolctl.threadpool_limits(1, 'blas'),
  ):
    outsiders = None
    if VISIBLE in detectors:
      read = functools.partial(reading, source)
      outsiders = recurring.Outsiders(source, read, pool)

    def begun(found: list[ClassFolder]) -> _Group:
      fingerprints = [one.fingerprint(source) for one in found]
      known = [
        output.records(one.name, fingerprint)
        for one, fingerprint in zip(found, fingerprints, strict=True)
      ]
      classes = [OneClass(source, one, model, outsiders, pool) for one in found]
      new = [
        one
        for one, records in zip(classes, known, strict=True)
        if records is None
      ]
      if new:
        # All, also those that an earlier run has done: the last digit of a
        # score depends on the pictures beside it.
        _score(classes, settings.threshold)
      searches = [beside.submit(one.look_for_what_recurs) for one in new]
      return _Group(classes, fingerprints, known, searches)

    # One core would often wait while something is looked for in a class.
    for group in _one_ahead(map(begun, _groups(folder.classes(source)))):
      for search in group.searches:
        search.result()
      for one, fingerprint, records in zip(
        group.classes, group.fingerprints, group.known, strict=True
      ):
        if records is None:
          records = one.treat(output, settings)
          one.check_unchanged(fingerprint)
          output.finish_class(one.name, fingerprint, records)
        bar.update(len(records))
        yield records


@contextmanager
def _thread_beside() -> Iterator[concurrent.futures.Executor]:
  """A thread; after an error, or if the user stops the run, what it has not
  begun does not begin."""
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    try:
      yield thread
    except BaseException:
      thread.shutdown(wait=False, cancel_futures=True)
      raise


def _one_ahead(groups: Iterable['_Group']) -> Iterator['_Group']:
  """Each once the next one has been begun."""
  before: list[_Group] = []
  for group in groups:
    yield from before
    before = [group]
  yield from before


def _groups(classes: Iterable[ClassFolder]) -> Iterator[list[ClassFolder]]:
  """Classes that are scored together: small ones fill a batch."""
  group: list[ClassFolder] = []
  for found in classes:
    group.append(found)
    if sum(len(one.entries) for one in group) >= _IN_MEMORY:
      yield group
      group = []
  if group:
    yield group


def _score(classes: Sequence[OneClass], threshold: float | None) -> None:
  """First pass: the scores of all pictures, and each class's mean picture."""
  entries = ((one, entry) for one in classes for entry in one.found.entries)
  while batch := list(itertools.islice(entries, _IN_MEMORY)):
    pool, model = batch[0][0].pool, batch[0][0].model
    looks = list(pool.map(lambda of: of[0].look(of[1]), batch))
    views = [one.views for one in looks if isinstance(one, Seen)]
    scores = iter(any_size.score(model, views) if model and views else ())
    for (one, entry), seen in zip(batch, looks, strict=True):
      has_score = model and isinstance(seen, Seen)
      score = float(next(scores)) if has_score else None
      one.add(entry, seen, score, threshold)


class _Group(NamedTuple):
  """Classes that are scored together.

  Attributes:
    classes: scored, if one of them is new.
    fingerprints: of their files.
    known: their records, from an earlier run; None of a new class.
    searches: for what recurs, while other classes are scored.
  """

  classes: list[OneClass]
  fingerprints: list[str]
  known: list[list[Record] | None]
  searches: list[concurrent.futures.Future[None]]
