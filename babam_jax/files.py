"""Files that are either whole or absent: temporary name, fsync, rename."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np


def named(path: str | os.PathLike[str]) -> pathlib.Path:
  """A path that a user has named; shells leave the `~` in `--input=~/faces`."""
  return pathlib.Path(os.path.expanduser(path))


def sync_folder(folder: pathlib.Path) -> None:
  """Makes the renames inside `folder` survive a power cut."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[Any]:
  """Opens a binary file that appears under `path` only once it is complete."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)
  finally:
    temporary.unlink(missing_ok=True)


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
  """Reads a JSON file."""
  return json.loads(path.read_text('utf-8'))


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes named arrays as `.npz`, whole or not at all."""
  with whole_file(path) as file:
    np.savez(file, **arrays)


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads an `.npz` of plain arrays; pickled objects in it are refused."""
  with np.load(path, allow_pickle=False) as stored:
    return {name: stored[name] for name in stored.files}
