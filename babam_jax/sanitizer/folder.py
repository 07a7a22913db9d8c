"""The contents of an untrusted folder: classes, files, and other entries."""

import dataclasses
import hashlib
import heapq
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from babam_jax.sanitizer.names import printable

NO_CLASS = '.'  # the class of files that are in no class folder
_LITTER = ('.ds_store', 'thumbs.db', 'desktop.ini', '.gitkeep', '.gitignore')
_LITTER_FOLDER = '__MACOSX'
# What macOS writes beside a file on other disks: `._name` (AppleDouble).
_DOUBLE, _DOUBLE_BEGINS = '._', b'\x00\x05\x16\x07'
_TOGETHER = 32  # files, at least, of the small classes of a group


@dataclasses.dataclass(frozen=True)
class Entry:
  """One entry of the folder.

  Attributes:
    path: below the folder; may hold bytes that are no UTF-8, as in `os`.
    fault: why it cannot be a picture, known without reading it; or ''.
    litter: whether it is a file that file browsers leave behind.
  """

  path: pathlib.PurePosixPath
  fault: str = ''
  litter: bool = False


class State(NamedTuple):
  """A class as it is on the disk.

  Attributes:
    fingerprint: a hash of names, sizes and times, to detect a change.
    size: the bytes of its files.
  """

  fingerprint: str
  size: int


@dataclasses.dataclass(frozen=True)
class ClassFolder:
  """A class: all that lies, at any depth, below one folder of the root.

  Attributes:
    name: the folder's name, or `NO_CLASS`.
    entries: all files in it, in order.
    folders: all folders in it, itself included.
  """

  name: str
  entries: list[Entry]
  folders: list[pathlib.PurePosixPath]

  def state(self, root: pathlib.Path) -> State:
    """What it is now."""
    total, size = hashlib.sha256(), 0
    for entry in self.entries:
      total.update(os.fsencode(entry.path) + b'\0')
      try:
        found = os.lstat(root / entry.path)
        total.update(f'{found.st_size} {found.st_mtime_ns}\n'.encode())
        size += found.st_size
      except OSError:
        total.update(b'none\n')
    return State(total.hexdigest(), size)


def names(root: pathlib.Path) -> list[str]:
  """The names of a folder's classes, in order."""
  loose, folders = _listed(root)
  return [NO_CLASS, *folders] if loose else folders


def _listed(root: pathlib.Path) -> tuple[list[str], list[str]]:
  """The names of what is in no folder, and of the folders, in order."""
  with os.scandir(root) as listed:
    is_folder = {one.name: one.is_dir(follow_symlinks=False) for one in listed}
  loose = sorted(name for name, yes in is_folder.items() if not yes)
  return loose, sorted(is_folder.keys() - set(loose))


def read(root: pathlib.Path, chosen: Iterable[str]) -> Iterator[ClassFolder]:
  """Some classes of a folder, one at a time.

  Never follows a link to a folder, nor one that leaves the root.

  Args:
    root: the folder.
    chosen: of their `names`.
  """
  inside = root.resolve()
  for name in chosen:
    if name == NO_CLASS:
      yield _loose(root, inside)
    else:
      yield _walk(root, pathlib.PurePosixPath(name), inside)


def classes(root: pathlib.Path) -> Iterator[ClassFolder]:
  """All classes of a folder, one at a time, in order of their names."""
  return read(root, names(root))


class Group(NamedTuple):
  """Classes whose pictures are scored together: small ones fill a batch.

  Attributes:
    names: of the classes.
    files: the number of their files.
    size: the bytes of these.
  """

  names: list[str]
  files: int
  size: int


class Part(NamedTuple):
  """One of several processes that share the work on a folder.

  Attributes:
    number: its number, from 1.
    count: how many there are.
  """

  number: int
  count: int

  def __str__(self) -> str:
    return f'{self.number}/{self.count}'


class Inventory(NamedTuple):
  """What a folder holds, to detect that it has changed.

  Attributes:
    files: the number of all its entries but folders.
    fingerprints: the fingerprint of each class, by its printable name.
    groups: all classes, in order.
  """

  files: int
  fingerprints: dict[str, str]
  groups: list[Group]

  def fingerprint(self) -> str:
    """A hash of all."""
    text = json.dumps(self.fingerprints, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

  def dealt(self, part: Part) -> 'Inventory':
    """What one of several processes is dealt: whole groups, so that no score
    depends on how many processes there are; by bytes, the largest first, each
    to the process that has least."""
    order = sorted(range(len(self.groups)), key=lambda i: -self.groups[i].size)
    loads = [(0, number) for number in range(1, part.count + 1)]
    mine = []
    for place in order:
      load, number = loads[0]
      heapq.heapreplace(loads, (load + self.groups[place].size, number))
      if number == part.number:
        mine.append(place)
    groups = [self.groups[place] for place in sorted(mine)]
    return self._replace(files=sum(one.files for one in groups), groups=groups)


def inventory(root: pathlib.Path) -> Inventory:
  """The inventory of a folder."""
  fingerprints: dict[str, str] = {}
  groups: list[Group] = []
  new = True
  for found in classes(root):
    state = found.state(root)
    fingerprints[printable(found.name)] = state.fingerprint
    if new:
      groups.append(Group([], 0, 0))
    group = groups[-1]
    group.names.append(found.name)
    groups[-1] = group._replace(
      files=group.files + len(found.entries), size=group.size + state.size
    )
    new = groups[-1].files >= _TOGETHER
  return Inventory(sum(one.files for one in groups), fingerprints, groups)


def _loose(root: pathlib.Path, inside: pathlib.Path) -> ClassFolder:
  """The class of what is in no class folder."""
  loose, folders = (map(pathlib.PurePosixPath, x) for x in _listed(root))
  made = [path for path in folders if path.name != _LITTER_FOLDER]
  return ClassFolder(
    NO_CLASS, [_entry(root, path, inside) for path in loose], made
  )


def _walk(
  root: pathlib.Path, folder: pathlib.PurePosixPath, inside: pathlib.Path
) -> ClassFolder:
  entries, below = [], []

  def not_listed(error: OSError) -> None:
    path = pathlib.PurePosixPath(error.filename).relative_to(root.as_posix())
    entries.append(Entry(path, f'cannot be listed ({error.strerror})'))

  for here, folders, names in os.walk(root / folder, onerror=not_listed):
    folders.sort()
    relative = pathlib.PurePosixPath(here).relative_to(root.as_posix())
    links = [f for f in folders if (pathlib.Path(here) / f).is_symlink()]
    for name in sorted(names + links):
      entries.append(_entry(root, relative / name, inside))
    if _LITTER_FOLDER not in relative.parts:
      below.append(relative)
  return ClassFolder(folder.name, entries, below)


def _entry(
  root: pathlib.Path, path: pathlib.PurePosixPath, inside: pathlib.Path
) -> Entry:
  fault = _fault(root / path, inside)
  if not fault and _is_litter(root / path, path):
    return Entry(path, 'left behind by a file browser', litter=True)
  return Entry(path, fault)


def _is_litter(place: pathlib.Path, path: pathlib.PurePosixPath) -> bool:
  if path.name.lower() in _LITTER or _LITTER_FOLDER in path.parts:
    return True
  if not path.name.startswith(_DOUBLE):
    return False
  try:
    with open(place, 'rb') as file:
      return file.read(len(_DOUBLE_BEGINS)) == _DOUBLE_BEGINS
  except OSError:
    return False  # reading it will tell


def _fault(path: pathlib.Path, inside: pathlib.Path) -> str:
  """Why a path cannot be a picture; '' if it is a file that can be read."""
  try:
    if path.is_symlink():
      target = path.resolve(strict=True)
      if not target.is_relative_to(inside):
        return 'a link that leaves the folder'
      if target.is_dir():
        return 'a link to a folder, which is not followed'
    if not stat.S_ISREG(path.stat().st_mode):
      return 'no regular file'
  except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
    return f'cannot be looked at ({getattr(error, "strerror", None) or error})'
  return ''
