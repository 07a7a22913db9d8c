"""Files that are either whole or absent: temporary name, fsync, rename.

And read back: whatever may have happened to them meanwhile, what is wrong with
one is a `ValueError`, and no file makes us run anything or take much memory.
"""

import contextlib
import fcntl
import io
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Container, Iterator
from typing import Any

import numpy as np

from babam_jax import errors


def named(path: str | os.PathLike[str]) -> pathlib.Path:
  """A path that a user has named; shells leave the `~` in `--input=~/faces`."""
  return pathlib.Path(os.path.expanduser(path))


def check_folder(path: pathlib.Path, field: str) -> None:
  """Checks that a folder is there, or can be made.

  Args:
    path: the folder.
    field: the setting that named it, for the error message.

  Raises:
    UserError: it, or what it is to be made in, is a file.
  """
  there = next((one for one in (path, *path.parents) if one.exists()), path)
  if there.exists() and not there.is_dir():
    raise errors.UserError(
      f'{field}: {there} is a file; expected a folder, or a path where one can '
      'be made. Choose another path.'
    )


def sync_folder(folder: pathlib.Path) -> None:
  """Makes the renames inside `folder` survive a power cut."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[Any]:
  """Opens a binary file that appears under `path` only once it is complete.

  Two processes that write the same file do so one after the other. What a kill
  leaves, the next one that writes the file uses, on disks that have locks.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with _temporary_file(path) as (file, temporary):
    try:
      yield file
      file.flush()
      os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      temporary.unlink(missing_ok=True)
      raise
  sync_folder(path.parent)


@contextlib.contextmanager
def _temporary_file(
  path: pathlib.Path,
) -> Iterator[tuple[Any, pathlib.Path]]:
  """An empty file beside another, for one process at a time."""
  temporary = path.with_name(f'.{path.name}.tmp')
  while True:
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    with open(descriptor, 'r+b') as file:
      if not _is_locked(descriptor):
        temporary.unlink(missing_ok=True)
        break
      if _is_at(descriptor, temporary):
        file.truncate(0)
        yield file, temporary
        return
      # Whoever had it has renamed it meanwhile.
  own = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  with open(own, 'wb') as file:
    yield file, own


def _is_locked(descriptor: int) -> bool:
  """Waits until nobody else has a lock; False where a disk has none."""
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
  except OSError:
    return False
  return True


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
  """Whether an open file is the one that has this name."""
  try:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  except FileNotFoundError:
    return False


@contextlib.contextmanager
def scratch_folder(folder: pathlib.Path | None) -> Iterator[pathlib.Path]:
  """A folder for unfinished work: the one given, or a temporary one."""
  if folder is not None:
    yield folder
    return
  with tempfile.TemporaryDirectory() as temporary:
    yield pathlib.Path(temporary)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes `text` as UTF-8, whole or not at all."""
  with whole_file(path) as file:
    file.write(text.encode('utf-8'))


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes `value` as indented JSON, whole or not at all."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file.

  Raises:
    ValueError: it is none.
  """
  return parse_json(path.read_text('utf-8'))


def parse_json(text: str) -> Any:
  """The value of a text.

  Raises:
    ValueError: it is no JSON.
  """
  try:
    return json.loads(text)
  except RecursionError:
    raise ValueError('it is nested too deeply') from None


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The objects in a file to which commands append a line of JSON at a time;
  none if there is no file. What full disks leave, torn lines, is skipped."""
  found = []
  text = path.read_text('utf-8', 'replace') if path.exists() else ''
  for line in text.splitlines():
    with contextlib.suppress(ValueError):
      found.append(parse_json(line))
  return [value for value in found if isinstance(value, dict)]


@contextlib.contextmanager
def as_written(path: pathlib.Path, field: str, remedy: str) -> Iterator[None]:
  """For reading what a command has written: what cannot be made of it inside
  the block is damage of the file.

  Args:
    path: the file.
    field: the option that named it or its folder.
    remedy: what the user can do, a sentence.

  Raises:
    UserError: something is wrong with the file.
  """
  try:
    yield
  except errors.UserError:
    raise
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise errors.UserError(
      f'{field}: {path} is damaged ({one_line(error)}); expected it as it was '
      f'written. {remedy}'
    ) from None


def one_line(error: BaseException) -> str:
  """What an error says, in one line that is not too long."""
  is_key = isinstance(error, KeyError) and len(error.args) == 1
  text = str(error.args[0]) if is_key else str(error)
  shown = (' '.join(text.split()) or type(error).__name__)[:200]
  return f'no {shown!r}' if is_key else shown


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes named arrays as `.npz`, whole or not at all."""
  with whole_file(path) as file:
    np.savez(file, **arrays)


def read_arrays(
  path: pathlib.Path, names: Container[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads an `.npz` that `write_arrays` has written.

  Args:
    path: the file.
    names: those of the arrays to read; None: all.

  Raises:
    ValueError: it is none, is damaged, or holds what we never write: pickled
      objects, or compressed arrays, which a small file could hold many of.
  """
  try:
    with zipfile.ZipFile(path) as stored:
      members = stored.infolist()
      if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError('it is smaller than what it says to hold')
      of_names = {
        member.filename.removesuffix('.npy'): member for member in members
      }
      return {
        name: _read_array(stored, member)
        for name, member in of_names.items()
        if names is None or name in names
      }
  except (ValueError, OSError, MemoryError):
    raise
  except Exception as error:  # parsers fail in many ways
    raise ValueError(one_line(error)) from None


def _read_array(stored: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
  with stored.open(member) as file:
    shape, dtype = _read_header(file)
    size = member.file_size - file.tell()
  if dtype.hasobject:
    raise ValueError(f'{member.filename} holds pickled objects')
  if int(np.prod(shape, dtype=object)) * dtype.itemsize != size:
    raise ValueError(f'{member.filename} has another size than it says')
  with stored.open(member) as file:
    return np.lib.format.read_array(file, allow_pickle=False)


def _read_header(file: io.BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
  version = np.lib.format.read_magic(file)
  read = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  if version not in read:
    raise ValueError(f'an array in format {version}')
  try:
    shape, _, dtype = read[version](file)
  except MemoryError:  # from parsing it: it has some thousand letters at most
    raise ValueError('a header that is nested too deeply') from None
  return shape, dtype
