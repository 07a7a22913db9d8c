"""The sanitized folder while it is being made: finished work is not repeated,
and no two processes do the same."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from babam_jax import errors, files, locks
from babam_jax.progress import say
from babam_jax.sanitizer.folder import Group, Inventory, Part
from babam_jax.sanitizer.names import folded, path_of, printable
from babam_jax.sanitizer.output_files import OutputFiles
from babam_jax.sanitizer.record import Record

_STATE = '.sanitize-unfinished'
_SETTINGS = 'settings.json'
_INVENTORY = 'inventory.json'
_CLASSES = 'classes'  # a folder: a file for each that is done
_DONE = '.json'
_LOCK = 'lock'
_PART_LOCK, _PART_LOCKS = 'part-{}-of-{}.lock', 'part-*.lock'
# A part whose machine has died: network disks keep its lock for a while.
_PART_SECONDS = 300
_LOOK_SECONDS = 10
_PROBE, _PROBE_FOLDED = 'Probe', 'probe'
_REMEDY = 'Choose another folder, or remove this one.'
Siblings = Iterable[Iterable[pathlib.PurePosixPath]]
REPORTS = ('scores.csv', 'summary.json', 'report.html')


class Output:
  """A folder that is being filled, class by class.

  A class is done when its records are in the folder's state; a run that was
  killed begins with the first class that is not. Several processes may fill
  one folder, each a part of its classes, before one has it for itself.

  Attributes:
    root: the folder.
    files: writes the files of the classes.
  """

  def __init__(
    self,
    source: pathlib.Path,
    root: pathlib.Path,
    settings: dict[str, Any],
    part: Part | None = None,
  ):
    """Opens an empty folder, or one that the same command has begun.

    Args:
      source: the input.
      root: the folder.
      settings: those of the command.
      part: which part this process does; it waits while another process begins
        the folder. None: this process has the folder for itself.

    Raises:
      UserError: the folder is in the input or the input in it, or it holds
        something else, or another process has it.
    """
    self._source, self.root = source, root
    self._state = root / _STATE
    self._settings, self._part = settings, part
    self.files = OutputFiles(source, root, self._state)
    self._fingerprints: dict[str, str] = {}
    self._made = [one for one in (root, *root.parents) if not one.exists()]
    _check_places(source, root)
    self._check_state()  # before anything is made in a folder of others
    self._lock = contextlib.ExitStack()
    try:
      self._acquire()
      self._check_state()  # another run may have ended meanwhile
      self._check_parts()
    except locks.BusyError:
      self._lock.close()
      raise errors.UserError(
        f'--output: another run is filling {root}; expected a folder for one '
        'run. Wait for it, or choose another folder.'
      ) from None
    except errors.UserError:
      self._abandon()
      raise

  def _acquire(self) -> None:
    """Takes the folder's lock; a part waits for it.

    Raises:
      BusyError: another process has it.
    """
    seconds = 0
    while True:
      self._state.mkdir(parents=True, exist_ok=True)
      try:
        lock = locks.held(self._state / _LOCK, seconds)
        self._lock.enter_context(lock)
        return
      except FileNotFoundError:
        pass  # whoever had it has removed it: the folder may be complete
      except locks.BusyError:
        if self._part is None:
          raise
        if not seconds:
          say(f'{self.root}: waits while another process has it')
        seconds = _LOOK_SECONDS

  def _check_parts(self) -> None:
    """Checks that nobody else is at work, if this process does all.

    Raises:
      BusyError: somebody is.
    """
    if self._part is None:
      for path in self._state.glob(_PART_LOCKS):
        with locks.held(path, seconds=0):
          pass  # whoever begins now waits for this folder's lock

  def _check_state(self) -> None:
    try:
      found = self._read_state(self._state / _SETTINGS)
    except FileNotFoundError:
      _check_empty(self.root)
      return
    if found != self._settings:
      raise errors.UserError(
        f'--output: {self.root} was begun with other settings '
        f'({json.dumps(found)}); expected the same. Give them, or choose '
        'another folder.'
      )

  def _read_state(self, path: pathlib.Path) -> dict[str, Any]:
    with files.as_written(path, '--output', _REMEDY):
      found = files.read_json(path)
      if not isinstance(found, dict):
        raise ValueError('it holds no fields')
      return found

  def _abandon(self) -> None:
    """Leaves the folder as it was, unless it was begun earlier."""
    begun = self.has_begun
    self._lock.close()  # first: network disks keep what is open
    if not begun:
      remove_rest(self.root)
      for made in self._made:
        with contextlib.suppress(OSError):
          made.rmdir()  # if it is empty

  @property
  def has_begun(self) -> bool:
    """Whether it has an inventory of the input."""
    return (self._state / _SETTINGS).exists()

  # Read once: of a million classes it is large.
  @functools.cached_property
  def inventory(self) -> Inventory:
    """The inventory of the input, once it has begun."""
    path = self._state / _INVENTORY
    found = self._read_state(path)
    with files.as_written(path, '--output', _REMEDY):
      groups = [
        Group([os.fspath(path_of(name)) for name in names], count, size)
        for names, count, size in found['groups']
      ]
      return Inventory(found['files'], dict(found['fingerprints']), groups)

  def begin(self, inventory: Inventory, paths: Siblings = ()) -> None:
    """Stores the inventory of the input, or compares it with the stored one.

    Args:
      inventory: what it holds.
      paths: those of each class.

    Raises:
      UserError: a class has changed, come or gone since the folder was begun;
        or the output's disk takes two paths for one.
    """
    now = inventory.fingerprints
    if not self.has_begun:
      try:
        self._check_names([map(pathlib.PurePosixPath, now)])
        self._check_names(paths)
      except errors.UserError:
        self._abandon()
        raise
      # A kill at the end of an earlier run may have left them.
      shutil.rmtree(self._state / _CLASSES, ignore_errors=True)
      groups = [
        group._replace(names=list(map(printable, group.names)))
        for group in inventory.groups
      ]
      stored = inventory._replace(groups=groups)._asdict()
      files.write_json(self._state / _INVENTORY, stored)
      # Last: only a folder that is being filled has settings.
      files.write_json(self._state / _SETTINGS, self._settings)
      before = now
    else:
      before = self.inventory.fingerprints
    if before != now:
      names = sorted(before.keys() | now.keys())
      raise self._changed(next(n for n in names if before.get(n) != now.get(n)))
    self._fingerprints = before
    self._let_others_in()

  def _let_others_in(self) -> None:
    """The folder has begun: other parts can begin, too.

    Raises:
      UserError: another process does this part.
    """
    if self._part is None:
      return
    with self._lock.pop_all():  # held until this part's own lock is
      path = self._state / _PART_LOCK.format(*self._part)
      try:
        self._lock.enter_context(locks.held(path, _PART_SECONDS))
      except locks.BusyError:
        raise errors.UserError(
          f'--part: another process does part {self._part} of {self.root}; '
          'expected a part of its own for each. Give another one.'
        ) from None

  def _check_names(self, paths: Siblings) -> None:
    """Checks that no two paths are one and the same on the output's disk.

    Raises:
      UserError: the disk tells no case, or no way to compose letters, and two
        of the paths differ in nothing else.
    """
    if not self._folds:
      return
    for siblings in paths:
      seen: dict[str, pathlib.PurePosixPath] = {}
      for path in siblings:
        other = seen.setdefault(folded(path), path)
        if other != path:
          raise errors.UserError(
            f'--output: the disk of {self.root} takes {printable(other)!r} and '
            f'{printable(path)!r} for one name; expected a disk that tells '
            'them apart. Choose another folder, or rename one.'
          )

  @functools.cached_property
  def _folds(self) -> bool:
    """Whether the output's disk takes different names for one."""
    probe, same = self._state / _PROBE, self._state / _PROBE_FOLDED
    probe.write_bytes(b'')
    try:
      return same.exists()
    finally:
      probe.unlink()

  def _changed(self, class_name: str) -> errors.UserError:
    return errors.UserError(
      f'--input: {self._source / class_name} has changed since {self.root} '
      'was begun; expected an input that stays. Choose another output.'
    )

  def records(self, class_name: str, fingerprint: str) -> list[Record] | None:
    """What was found in a class; None if it is not done.

    Raises:
      UserError: the class has changed since the folder was begun, or since it
        was done.
    """
    if self._fingerprints.get(printable(class_name)) != fingerprint:
      raise self._changed(class_name)
    path = self._journal(class_name)
    if not path.exists():
      return None
    journal = self._read_state(path)
    with files.as_written(path, '--output', _REMEDY):
      if journal['fingerprint'] != fingerprint:
        raise self._changed(class_name)
      return [Record(**fields) for fields in journal['records']]

  def all_records(self, inventory: Inventory) -> Iterator[list[Record]]:
    """What was found in each class, in order, once all are done."""
    for group in inventory.groups:
      for name in group.names:
        known = self.records(name, self._fingerprints[printable(name)])
        assert known is not None, f'{name} is done'
        yield known

  def finish_class(
    self, class_name: str, fingerprint: str, records: list[Record]
  ) -> None:
    """Marks a class as done."""
    found = [dataclasses.asdict(record) for record in records]
    files.write_json(
      self._journal(class_name),
      {'fingerprint': fingerprint, 'records': found},
    )

  def _journal(self, class_name: str) -> pathlib.Path:
    digest = hashlib.sha256(os.fsencode(class_name)).hexdigest()
    return self._state / _CLASSES / f'{digest[:32]}{_DONE}'

  def __enter__(self) -> 'Output':
    return self

  def __exit__(self, *error: object) -> None:
    """Lets other processes go on with the folder."""
    self._lock.close()

  def close(self) -> None:
    """The folder is complete: removes its state."""
    # First: what a kill leaves of the rest is no state of a folder in work.
    (self._state / _SETTINGS).unlink()
    self._lock.close()  # network disks keep what is open
    remove_rest(self.root)


class HowFar(NamedTuple):
  """How far the work on a folder is.

  Attributes:
    done: the number of classes that are done.
    classes: the number of all.
  """

  done: int
  classes: int


def how_far(root: pathlib.Path) -> HowFar | None:
  """How far the work on a folder is; None if it has not begun, or is done."""
  try:
    stored = files.read_json(root / _STATE / _INVENTORY)
    return HowFar(classes_done(root), len(stored['fingerprints']))
  except (OSError, ValueError, LookupError, TypeError):
    return None


def classes_done(root: pathlib.Path) -> int:
  """How many classes are done of a folder that is being filled."""
  with contextlib.suppress(FileNotFoundError):
    names = os.listdir(root / _STATE / _CLASSES)
    return sum(name.endswith(_DONE) for name in names)
  return 0


def is_complete(root: pathlib.Path) -> bool:
  """Whether a folder is the complete output of an earlier run."""
  return not (root / _STATE / _SETTINGS).exists() and all(
    (root / name).is_file() for name in REPORTS
  )


def remove_rest(root: pathlib.Path) -> None:
  """Removes the state of a folder that is complete, or not begun."""
  shutil.rmtree(root / _STATE, ignore_errors=True)


def _check_empty(root: pathlib.Path) -> None:
  if not root.exists() or all(p.name == _STATE for p in root.iterdir()):
    return
  found = (
    'is the finished output of an earlier run, with other settings or of '
    f'another input ({root / REPORTS[-1]})'
    if is_complete(root)
    else 'is not empty'
  )
  raise errors.UserError(
    f'--output: {root} {found}; expected a new or an empty folder. Choose '
    'another one.'
  )


def _check_places(source: pathlib.Path, root: pathlib.Path) -> None:
  inside, outside = source.resolve(), root.resolve()
  if inside.is_relative_to(outside) or outside.is_relative_to(inside):
    raise errors.UserError(
      f'--output: {root} and the input {source} lie in each other; expected '
      'two folders apart. Choose another output.'
    )
  taken = [name for name in REPORTS if os.path.lexists(source / name)]
  if taken:
    raise errors.UserError(
      f'--input: {source} holds {taken[0]!r}, the name of a report that the '
      'output receives; expected another name. Rename it.'
    )
  if (source / _STATE).exists():
    raise errors.UserError(
      f'--input: {source} is the unfinished output of this command; expected a '
      'folder of class folders. Finish it first.'
    )
