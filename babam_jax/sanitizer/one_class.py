"""One class of an untrusted folder: its pictures are looked at, judged, and
written as they were or changed."""

import concurrent.futures
import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from babam_jax import errors
from babam_jax.defenses import any_size, by_kind, noise, pirm
from babam_jax.recurrence import look
from babam_jax.sanitizer import picture, recurring
from babam_jax.sanitizer.folder import ClassFolder, Entry
from babam_jax.sanitizer.names import folded, path_of, png_name, printable
from babam_jax.sanitizer.output import Output
from babam_jax.sanitizer.record import PERTURBATION, Record
from babam_jax.sanitizer.room import Room

IN_MEMORY = 32  # pictures
CLOSER = 'flagged by a closer look at its class'
# For the pictures that all threads are decoding, however many they are.
_ROOM = Room(1 << 30)
# Classes mix sizes: means and distances are taken on copies of this size.
_COMMON_SIZE = 224

Check = Callable[[], object]  # may raise, to end the work


class Settings(NamedTuple):
  """What to do with a picture.

  Attributes:
    action: one of `sanitize.ACTIONS`.
    visible: what 'perturb' does with pictures in which something recurs: one
      of `by_kind.CHANGES`, or `by_kind.DROP`.
    threshold: a picture with a higher probability of poison is flagged; None
      without a PIRM.
    epsilon: Algorithm 1's budget.
    link: whether unflagged files are hard links instead of copies.
    seed: the seed of the noise.
  """

  action: str
  visible: str
  threshold: float | None
  epsilon: float
  link: bool
  seed: int


@contextmanager
def reading(source: pathlib.Path, entry: Entry) -> Iterator[picture.Read]:
  """A decoded picture, which takes its part of the room of all.

  Args:
    source: the folder.
    entry: a file in it.

  Raises:
    UnjudgedError: it cannot be judged.
  """
  if entry.fault:
    raise picture.UnjudgedError(entry.fault)
  with picture.reading(source / entry.path, _ROOM) as read:
    yield read


def _with_what_recurs(record: Record, found: recurring.Recurs | None) -> Record:
  if found is None:
    return record
  kinds = [record.kind, found.kind] if record.kind else [found.kind]
  return dataclasses.replace(
    record,
    flagged=True,
    kind=' and '.join(kinds),
    recurs=found.number,
    likeness=found.likeness,
    place=list(found.place),
  )


def _change(record: Record, settings: Settings) -> str:
  """What happens to a flagged picture, a name of `by_kind`."""
  if not record.flagged or settings.action != 'perturb':
    return by_kind.DROP
  return 'noise' if record.place is None else settings.visible


def _small(pixels: UInt8[np.ndarray, 'h w 3']) -> UInt8[np.ndarray, 's s 3']:
  size = (_COMMON_SIZE, _COMMON_SIZE)
  resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
  return np.asarray(resized)


class Seen(NamedTuple):
  """What is kept of a picture, however large it is.

  Attributes:
    views: the PIRM's inputs; none without one.
    small: a copy of the common size; None if no picture receives noise.
    seen: what can be found again in others; None if it is not looked for.
    note: remarks about the file.
  """

  views: tuple[any_size.View, ...]
  small: UInt8[np.ndarray, 's s 3'] | None
  seen: look.Look | None
  note: str


class OneClass:
  """One class of the untrusted folder: scored by `_score`, then treated."""

  def __init__(
    self,
    source: pathlib.Path,
    found: ClassFolder,
    model: pirm.Pirm | None,
    outsiders: recurring.Outsiders | None,
    pool: concurrent.futures.ThreadPoolExecutor,
    settings: Settings,
  ):
    self.found, self.model, self.pool = found, model, pool
    self.name = found.name
    self.fingerprint = found.state(source).fingerprint
    self._source, self._settings = source, settings
    self._records: list[Record] = []
    self._means = noise.ClassMeans(1)
    self._outsiders = outsiders
    self._sample = recurring.sample(found) if outsiders else set()
    self._seen: dict[pathlib.PurePosixPath, look.Look] = {}

  def add(self, entry: Entry, seen: Seen | str, score: float | None) -> None:
    """Adds the next entry, as it was judged.

    Args:
      entry: the entry.
      seen: what is kept of it, or why it cannot be judged.
      score: the probability of poison; None without a PIRM.
    """
    record = Record(printable(entry.path), printable(self.name))
    if isinstance(seen, str):
      action = 'left out' if entry.litter else record.action
      self._records.append(
        dataclasses.replace(record, note=seen, action=action)
      )
      return
    if seen.small is not None:
      self._means.add(seen.small[None], np.zeros(1, int))
    if seen.seen is not None:
      self._seen[entry.path] = seen.seen
    flagged = self._is_high(score)
    self._records.append(
      dataclasses.replace(
        record,
        judged=True,
        score=score,
        flagged=flagged,
        kind=PERTURBATION if flagged else '',
        note=seen.note,
      )
    )

  def look_for_what_recurs(self, check: Check = lambda: None) -> None:
    """Flags the pictures in which something recurs, once all are added.

    Args:
      check: is called before each picture; may raise, to end the work.
    """
    if self._outsiders is None or not self._seen:
      return
    found = recurring.judge_class(
      self.found,
      self._seen,
      self._outsiders,
      functools.partial(reading, self._source),
      self.pool,
      check,
    )
    self._seen = {}
    self._records = [
      _with_what_recurs(record, found.get(entry.path))
      for entry, record in zip(self.found.entries, self._records, strict=True)
    ]

  def treat(self, output: Output, check: Check = lambda: None) -> list[Record]:
    """Perturbs what is flagged, copies the rest.

    Args:
      output: where to.
      check: is called before each picture; may raise, to end the work.
    """
    records, settings = self._records, self._settings
    if settings.action == 'report':
      return [
        dataclasses.replace(record, action='reported')
        if record.judged
        else record
        for record in records
      ]
    if any(_change(record, settings) != by_kind.DROP for record in records):
      means = self._means.means()
      records = self._with_sensitivities(records, means, check)
    for path in self.found.folders:  # also those without files
      output.files.make_folder(path)
    taken, written = self._taken(), []
    for entry, record in zip(self.found.entries, records, strict=True):
      check()
      written.append(self._write(output, entry, record, taken))
    return written

  def judge_again(self, known: list[Record], output: Output) -> list[Record]:
    """Flags also what scores above the threshold of the settings, in a class
    that was treated with a higher one.

    What was kept of them stays until `remove_kept`.

    Args:
      known: what was found and done.
      output: where to.
    """
    flagged = [self._flagged_too(record) for record in known]
    were_kept = [
      new.flagged and not old.flagged
      for new, old in zip(flagged, known, strict=True)
    ]
    if self._settings.action == 'report' or not any(were_kept):
      return flagged
    records = flagged
    if self._settings.action == 'perturb':
      records = self._with_sensitivities(flagged, self._means_of(known))
    taken = self._taken()
    taken.update(folded(path_of(one.output)) for one in known if one.output)
    return [
      self._write(output, entry, record, taken) if was_kept else as_was
      for entry, record, as_was, was_kept in zip(
        self.found.entries, records, flagged, were_kept, strict=True
      )
    ]

  def remove_kept(self, records: list[Record], output: Output) -> None:
    """Removes what was kept of pictures that a closer look has flagged.

    Args:
      records: what was found and done, already written down.
      output: where to.
    """
    for entry, record in zip(self.found.entries, records, strict=True):
      moved = record.output != record.path
      if record.flagged_closer and record.action != 'reported' and moved:
        output.files.remove(entry.path)

  def check_unchanged(self) -> None:
    """Checks that what was copied is what was judged.

    Raises:
      UserError: the class is no longer what it was.
    """
    if self.found.state(self._source).fingerprint != self.fingerprint:
      raise errors.UserError(
        f'{self._source / self.found.name}: has changed while it was being '
        'judged; expected an input that stays. Choose another output.'
      )

  @contextmanager
  def _reading(self, entry: Entry) -> Iterator[picture.Read]:
    with reading(self._source, entry) as read:
      yield read

  def look(self, entry: Entry) -> Seen | str:
    """What is kept of a picture, or why it cannot be judged."""
    try:
      with self._reading(entry) as (pixels, _, note):
        views, share = (), 1.0
        if self.model is not None:
          views = any_size.views(self.model.variant, pixels)
          share = any_size.share_seen(self.model.variant, pixels)
        small = _small(pixels) if self._settings.action == 'perturb' else None
        seen = look.look(pixels) if entry.path in self._sample else None
    except picture.UnjudgedError as error:
      return str(error)
    if share < 1:
      large = f'large: {share:.0%} of it was looked at'
      note = f'{note}; {large}' if note else large
    return Seen(views, small, seen, note)

  def _flagged_too(self, record: Record) -> Record:
    """Flagged, if it has a higher score than the threshold."""
    if not self._is_high(record.score) or PERTURBATION in record.kind:
      return record
    if record.flagged:  # for a trigger that one can see
      kind = f'{PERTURBATION} and {record.kind}'
      return dataclasses.replace(record, kind=kind)
    note = '; '.join(filter(None, (record.note, CLOSER)))
    return dataclasses.replace(
      record, flagged=True, flagged_closer=True, kind=PERTURBATION, note=note
    )

  def _taken(self) -> set[str]:
    """The names of the input's files and folders, `folded`."""
    files = (entry.path for entry in self.found.entries)
    return set(map(folded, itertools.chain(files, self.found.folders)))

  def _is_high(self, score: float | None) -> bool:
    threshold = self._settings.threshold
    return score is not None and threshold is not None and score > threshold

  def _judged(self, records: list[Record]) -> list[Entry]:
    return [
      entry
      for entry, record in zip(self.found.entries, records, strict=True)
      if record.judged
    ]

  def _means_of(self, records: list[Record]) -> Float[np.ndarray, '1 s s 3']:
    """The mean of the class, once its pictures are no longer at hand."""

    def small(entry: Entry) -> UInt8[np.ndarray, 's s 3']:
      with self._reading_again(entry) as read:
        return _small(read.pixels)

    means, judged = noise.ClassMeans(1), iter(self._judged(records))
    while batch := list(itertools.islice(judged, IN_MEMORY)):
      copies = np.stack(list(self.pool.map(small, batch)))
      means.add(copies, np.zeros(len(copies), int))
    return means.means()

  def _with_sensitivities(
    self,
    records: list[Record],
    means: Float[np.ndarray, '1 s s 3'],
    check: Check = lambda: None,
  ) -> list[Record]:
    """Second pass: Algorithm 1, lines 3 to 6, for flagged pictures."""
    judged = self._judged(records)

    def distance(entry: Entry) -> float:
      check()
      return self._distance(entry, means)

    distances = np.array(list(self.pool.map(distance, judged)))
    shares = noise.shares(distances, np.zeros(len(judged), int)).tolist()
    share_of = dict(zip((one.path for one in judged), shares, strict=True))
    return [
      dataclasses.replace(record, sensitivity=share_of[entry.path])
      if record.flagged
      else record
      for entry, record in zip(self.found.entries, records, strict=True)
    ]

  def _distance(
    self, entry: Entry, means: Float[np.ndarray, '1 s s 3']
  ) -> float:
    with self._reading_again(entry) as read:
      small = _small(read.pixels)[None]
    place = np.zeros(1, int)
    return float(noise.distances(small, place, means, 'squared')[0])

  @contextmanager
  def _reading_again(self, entry: Entry) -> Iterator[picture.Read]:
    try:
      with self._reading(entry) as read:
        yield read
    except picture.UnjudgedError as error:
      raise errors.UserError(
        f'{self._source / entry.path}: has changed while it was being judged '
        f'({error}); expected an input that stays. Give the command again.'
      ) from None

  def _write(
    self,
    output: Output,
    entry: Entry,
    record: Record,
    taken: set[str],
  ) -> Record:
    settings = self._settings
    if not record.judged:
      return record
    if not record.flagged:
      output.files.copy(entry.path, settings.link)
      return dataclasses.replace(record, action='kept', output=record.path)
    change = _change(record, settings)
    if change == by_kind.DROP:
      return dataclasses.replace(
        record, action='dropped', sensitivity=None, output=''
      )
    with self._reading_again(entry) as read:
      # A gray picture stays gray.
      pixels = read.pixels[:, :, :1] if read.gray else read.pixels
    treated = noise.treat(
      pixels[None],
      np.array([record.path]),
      np.array([record.sensitivity]),
      epsilon=settings.epsilon,
      mode='laplace',
      seed=settings.seed,
      add=any_size.perturb,
    )
    path = png_name(entry.path, taken)
    noised, sensitivity = treated.images[0], float(treated.sensitivities[0])
    if record.place is not None:
      noised = by_kind.CHANGES[change](
        np.asarray(read.pixels),
        np.broadcast_to(noised, read.pixels.shape),
        np.array(record.place),
      )
    output.files.write_png(path, noised[:, :, 0] if read.gray else noised)
    return dataclasses.replace(
      record,
      sensitivity=sensitivity,
      scale=sensitivity / settings.epsilon,
      action='perturbed',
      output=printable(path),
    )
