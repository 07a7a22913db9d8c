"""The contents of an untrusted folder: classes, files, and other entries."""

import dataclasses
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import NamedTuple

from babam_jax.sanitizer.names import printable

NO_CLASS = '.'  # the class of files that are in no class folder
_LITTER = ('.ds_store', 'thumbs.db', 'desktop.ini', '.gitkeep', '.gitignore')
_LITTER_FOLDER = '__MACOSX'
# What macOS writes beside a file on other disks: `._name` (AppleDouble).
_DOUBLE, _DOUBLE_BEGINS = '._', b'\x00\x05\x16\x07'


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

  def fingerprint(self, root: pathlib.Path) -> str:
    """A hash of names, sizes and times, to detect a class that has changed."""
    total = hashlib.sha256()
    for entry in self.entries:
      total.update(os.fsencode(entry.path) + b'\0')
      try:
        found = os.lstat(root / entry.path)
        total.update(f'{found.st_size} {found.st_mtime_ns}\n'.encode())
      except OSError:
        total.update(b'none\n')
    return total.hexdigest()


def classes(root: pathlib.Path) -> Iterator[ClassFolder]:
  """The classes of a folder, one at a time, in order of their names.

  Never follows a link to a folder, nor one that leaves the root.
  """
  inside = root.resolve()
  loose, folders = [], []
  for name in sorted(os.listdir(root)):
    path = pathlib.PurePosixPath(name)
    if (root / name).is_dir() and not (root / name).is_symlink():
      folders.append(path)
    else:
      loose.append(_entry(root, path, inside))
  if loose:
    made = [path for path in folders if path.name != _LITTER_FOLDER]
    yield ClassFolder(NO_CLASS, loose, made)
  for folder in folders:
    yield _walk(root, folder, inside)


class Inventory(NamedTuple):
  """What a folder holds, to detect that it has changed.

  Attributes:
    files: the number of all its entries but folders.
    fingerprints: the fingerprint of each class, by its printable name.
  """

  files: int
  fingerprints: dict[str, str]

  def fingerprint(self) -> str:
    """A hash of all."""
    text = json.dumps(self.fingerprints, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def inventory(root: pathlib.Path) -> Inventory:
  """The inventory of a folder."""
  total, fingerprints = 0, {}
  for found in classes(root):
    total += len(found.entries)
    fingerprints[printable(found.name)] = found.fingerprint(root)
  return Inventory(total, fingerprints)


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
