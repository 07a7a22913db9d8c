"""Makes a folder that can be trained on from an untrusted one.

Algorithm 2 without a training: the PIRM scores every picture, flagged ones
receive Algorithm 1's noise at their own resolution, the rest stays byte for
byte. Classes are treated one by one, with a few pictures in memory.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from babam_jax import errors
from babam_jax.defenses import any_size, noise, pirm
from babam_jax.progress import progress_bar
from babam_jax.sanitizer import folder, picture
from babam_jax.sanitizer.folder import ClassFolder, Entry
from babam_jax.sanitizer.names import folded, printable
from babam_jax.sanitizer.output import Output, Record

ACTIONS = ('perturb', 'drop', 'report')
_LONGEST_NAME = 255  # bytes, in common file systems
_IN_MEMORY = 32  # pictures
# Classes mix sizes: means and distances are taken on copies of this size.
_COMMON_SIZE = 224


class Settings(NamedTuple):
  """What to do with a picture.

  Attributes:
    action: one of `ACTIONS`.
    threshold: a picture with a higher probability of poison is flagged.
    epsilon: Algorithm 1's budget.
    link: whether unflagged files are hard links instead of copies.
    seed: the seed of the noise.
  """

  action: str
  threshold: float
  epsilon: float
  link: bool
  seed: int


def run(
  source: pathlib.Path, output: Output, model: pirm.Pirm, settings: Settings
) -> Iterator[list[Record]]:
  """Treats class after class; yields the records of each."""
  total, inventory = 0, {}
  for found in folder.classes(source):
    total += len(found.entries)
    inventory[printable(found.name)] = found.fingerprint(source)
  if not total:
    raise errors.UserError(
      f'--input: no file in {source}; expected a folder of class folders with '
      'pictures. Choose another one.'
    )
  output.begin(inventory)
  with (
    progress_bar(total, 'sanitizing', 'file') as bar,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
  ):
    for found in folder.classes(source):
      fingerprint = found.fingerprint(source)
      records = output.records(found.name, fingerprint)
      if records is None:
        one = _Class(source, found, model, pool)
        records = one.treat(output, settings)
        one.check_unchanged(fingerprint)
        output.finish_class(found.name, fingerprint, records)
      bar.update(len(found.entries))
      yield records


def _small(pixels: UInt8[np.ndarray, 'h w 3']) -> UInt8[np.ndarray, 's s 3']:
  size = (_COMMON_SIZE, _COMMON_SIZE)
  resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
  return np.asarray(resized)


class _Look(NamedTuple):
  """What is kept of a picture, however large it is.

  Attributes:
    views: the PIRM's inputs.
    small: a copy of the common size.
    note: remarks about the file.
  """

  views: tuple[any_size.View, ...]
  small: UInt8[np.ndarray, 's s 3']
  note: str


class _Class:
  """One class of the untrusted folder."""

  def __init__(
    self,
    source: pathlib.Path,
    found: ClassFolder,
    model: pirm.Pirm,
    pool: concurrent.futures.ThreadPoolExecutor,
  ):
    self._source, self._found = source, found
    self._model, self._pool = model, pool

  def treat(self, output: Output, settings: Settings) -> list[Record]:
    """Scores, perturbs, copies."""
    records, means = self._score(settings.threshold)
    if settings.action == 'report':
      return [
        dataclasses.replace(record, action='reported')
        if record.score is not None
        else record
        for record in records
      ]
    if settings.action == 'perturb' and any(r.flagged for r in records):
      records = self._with_sensitivities(records, means.means())
    output.check_names(entry.path for entry in self._found.entries)
    for path in self._found.folders:  # also those without files
      output.make_folder(path)
    taken = {folded(entry.path) for entry in self._found.entries}
    taken.update(map(folded, self._found.folders))
    return [
      self._write(output, entry, record, settings, taken)
      for entry, record in zip(self._found.entries, records, strict=True)
    ]

  def check_unchanged(self, fingerprint: str) -> None:
    """Checks that what was copied is what was judged.

    Raises:
      UserError: the class no longer has this fingerprint.
    """
    if self._found.fingerprint(self._source) != fingerprint:
      raise errors.UserError(
        f'{self._source / self._found.name}: has changed while it was being '
        'judged; expected an input that stays. Choose another output.'
      )

  def _read(self, entry: Entry) -> picture.Read:
    if entry.fault:
      raise picture.UnjudgedError(entry.fault)
    return picture.read(self._source / entry.path)

  def _look(self, entry: Entry) -> _Look | str:
    """What is kept of a picture, or why it cannot be judged."""
    try:
      pixels, _, note = self._read(entry)
    except picture.UnjudgedError as error:
      return str(error)
    views = any_size.views(self._model.variant, pixels)
    seen = any_size.share_seen(self._model.variant, pixels)
    if seen < 1:
      large = f'large: {seen:.0%} of it was looked at'
      note = f'{note}; {large}' if note else large
    return _Look(views, _small(pixels), note)

  def _looks(
    self, entries: list[Entry]
  ) -> Iterator[list[tuple[Entry, _Look | str]]]:
    for start in range(0, len(entries), _IN_MEMORY):
      batch = entries[start : start + _IN_MEMORY]
      yield list(zip(batch, self._pool.map(self._look, batch), strict=True))

  def _score(self, threshold: float) -> tuple[list[Record], noise.ClassMeans]:
    """First pass: the scores, and the mean picture of the class."""
    records, means = [], noise.ClassMeans(1)
    for batch in self._looks(self._found.entries):
      looks = [look for _, look in batch if isinstance(look, _Look)]
      scores = iter(())
      if looks:
        views = [look.views for look in looks]
        scores = iter(any_size.score(self._model, views))
        small = np.stack([look.small for look in looks])
        means.add(small, np.zeros(len(looks), int))
      for entry, found in batch:
        record = Record(printable(entry.path), printable(self._found.name))
        if isinstance(found, str):
          action = 'left out' if entry.litter else record.action
          records.append(dataclasses.replace(record, note=found, action=action))
          continue
        score = float(next(scores))
        records.append(
          dataclasses.replace(
            record, score=score, flagged=score > threshold, note=found.note
          )
        )
    return records, means

  def _with_sensitivities(
    self, records: list[Record], means: Float[np.ndarray, '1 s s 3']
  ) -> list[Record]:
    """Second pass: Algorithm 1, lines 3 to 6, for flagged pictures."""
    judged = [
      entry
      for entry, record in zip(self._found.entries, records, strict=True)
      if record.score is not None
    ]
    found = self._pool.map(lambda entry: self._distance(entry, means), judged)
    distances = np.array(list(found))
    shares = noise.shares(distances, np.zeros(len(judged), int)).tolist()
    share_of = dict(zip((one.path for one in judged), shares, strict=True))
    return [
      dataclasses.replace(record, sensitivity=share_of[entry.path])
      if record.flagged
      else record
      for entry, record in zip(self._found.entries, records, strict=True)
    ]

  def _distance(
    self, entry: Entry, means: Float[np.ndarray, '1 s s 3']
  ) -> float:
    small = _small(self._read_again(entry).pixels)[None]
    place = np.zeros(1, int)
    return float(noise.distances(small, place, means, 'squared')[0])

  def _read_again(self, entry: Entry) -> picture.Read:
    try:
      return self._read(entry)
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
    settings: Settings,
    taken: set[str],
  ) -> Record:
    if record.score is None:
      return record
    if not record.flagged:
      output.copy(entry.path, settings.link)
      return dataclasses.replace(record, action='kept', output=record.path)
    if settings.action == 'drop':
      return dataclasses.replace(record, action='dropped')
    read = self._read_again(entry)
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
    path = _png_name(entry.path, taken)
    noised, sensitivity = treated.images[0], float(treated.sensitivities[0])
    output.write_png(path, noised[:, :, 0] if read.gray else noised)
    return dataclasses.replace(
      record,
      sensitivity=sensitivity,
      scale=sensitivity / settings.epsilon,
      action='perturbed',
      output=printable(path),
    )


def _shortened(name: str, length: int) -> str:
  """The start of a name, of at most `length` bytes, without half letters."""
  whole = os.fsencode(name)
  while len(whole) > length and whole[length] & 0xC0 == 0x80:  # mid-letter
    length -= 1
  return os.fsdecode(whole[:length])


def _png_name(
  path: pathlib.PurePosixPath, taken: set[str]
) -> pathlib.PurePosixPath:
  """The same stem with the ending .png, or another where that is taken.

  Args:
    path: of the picture that becomes a PNG.
    taken: the names of the class, `folded`; the new one is added.
  """
  if path.suffix.lower() == '.png':
    return path
  endings = (f'.{n}.png' for n in itertools.count(1))
  for ending in itertools.chain(['.png', f'{path.suffix}.png'], endings):
    room = _LONGEST_NAME - len(os.fsencode(ending))
    free = path.with_name(_shortened(path.stem, room) + ending)
    if folded(free) not in taken:
      taken.add(folded(free))
      return free
  raise AssertionError('there is always a next number')
