"""The artifacts in a store: what uses them, are they whole, which may go."""

import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import NamedTuple

from babam_jax import errors, files, locks
from babam_jax.store import artifacts

_LEFTOVERS = ('.output', '.scratch', '.removed')


class Kept(NamedTuple):
  """An artifact in a store.

  Attributes:
    folder: its folder.
    stage: the name of its stage.
    key: its full key.
    inputs: the keys of the artifacts that it was made from.
    seconds: how long it took to make.
    size: the size of its files, in bytes.
  """

  folder: pathlib.Path
  stage: str
  key: str
  inputs: tuple[str, ...]
  seconds: float
  size: int


def find(root: pathlib.Path) -> list[Kept]:
  """All artifacts of a store that have a readable record, by name.

  Raises:
    UserError: there is no store.
  """
  return [found for found in _all(root) if isinstance(found, Kept)]


def strangers(root: pathlib.Path) -> list[str]:
  """The folders of a store without a readable record, and why."""
  return [found for found in _all(root) if isinstance(found, str)]


def _all(root: pathlib.Path) -> list[Kept | str]:
  if not root.is_dir():
    raise errors.UserError(
      f'--artifacts: no folder {str(root)!r}; expected an artifact store. Give '
      'the folder that runs were given, or leave it out for runs/artifacts.'
    )
  return [
    _read(folder)
    for folder in sorted(root.iterdir())
    if folder.is_dir() and folder.suffix not in _LEFTOVERS
  ]


def _read(folder: pathlib.Path) -> Kept | str:
  try:
    record = artifacts.read_record(folder)
    return Kept(
      folder,
      record['stage'],
      record['key'],
      tuple(record['inputs']),
      record['seconds'],
      sum(_size(folder / name) for name in record['files']),
    )
  except (OSError, ValueError) as error:
    return f'{folder} is no artifact ({files.one_line(error)})'


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.exists() else 0  # `faults` reports it


def leftovers(root: pathlib.Path) -> list[pathlib.Path]:
  """What killed stages have left, and continue from when they run again."""
  return sorted(
    folder for folder in root.iterdir() if folder.suffix in _LEFTOVERS
  )


def faults(kept: Kept) -> list[str]:
  """What is wrong with an artifact's files, compared with their checksums."""
  expected = artifacts.read_record(kept.folder)['files']
  found = set(artifacts.file_names(kept.folder))
  wrong = [f'{name} is no part of it' for name in sorted(found - set(expected))]
  for name, checksum in expected.items():
    if name not in found:
      wrong.append(f'{name} is missing')
    elif artifacts.checksum(kept.folder / name) != checksum:
      wrong.append(f'{name} has changed')
  return wrong


def uses(runs: pathlib.Path) -> dict[str, set[pathlib.Path]]:
  """Which working folders below a folder use each artifact, by its key.

  Raises:
    UserError: there is no working folder, or one whose run is not finished
      and does not say yet what it uses.
  """
  found: dict[str, set[pathlib.Path]] = {}
  folders = [path.parent for path in sorted(runs.rglob('config.json'))]
  if not folders:
    raise errors.UserError(
      f'--runs: no working folder below {str(runs)!r}; expected those of the '
      'runs whose artifacts shall stay. Give another folder.'
    )
  for folder in folders:
    for key in _keys(folder):
      found.setdefault(key, set()).add(folder)
  return found


def _keys(folder: pathlib.Path) -> list[str]:
  for name in ('metrics.json', 'stages.json'):
    path = folder / name
    if path.exists():
      with files.as_written(
        path, '--runs', f'Remove {folder}, or run it anew.'
      ):
        record = files.read_json(path)
        if 'rows' in record:  # a study: its runs are folders of their own
          return []
        stages = record['stages'] if name == 'metrics.json' else record
        return [_key(stage) for stage in stages.values()]
  raise errors.UserError(
    f'--runs: {folder} is not finished; expected runs that say what they use. '
    'Give its command again, or remove it.'
  )


def _key(stage: dict[str, str]) -> str:
  if not isinstance(stage['key'], str):
    raise ValueError('a key is no text')
  return stage['key']


def with_inputs(keys: Iterable[str], store: list[Kept]) -> set[str]:
  """These keys, and those of all artifacts that theirs were made from."""
  by_key = {kept.key: kept for kept in store}
  needed, left = set(), list(keys)
  while left:
    key = left.pop()
    if key not in needed:
      needed.add(key)
      left.extend(by_key[key].inputs if key in by_key else ())
  return needed


def remove(folder: pathlib.Path) -> bool:
  """Removes an artifact or what a killed stage has left; False if a run is
  at work on it."""
  stem = folder
  while stem.suffix in _LEFTOVERS:
    stem = stem.with_suffix('')
  try:
    with locks.held(artifacts.lock_of(stem), seconds=0):
      if not folder.exists():
        return True  # somebody else has removed it
      if folder.suffix not in _LEFTOVERS:
        # Renamed first: an artifact is whole or absent at any time.
        removed = folder.with_name(folder.name + '.removed')
        shutil.rmtree(removed, ignore_errors=True)  # left by a kill
        os.rename(folder, removed)
        folder = removed
      shutil.rmtree(folder)
  except locks.BusyError:
    return False
  return True
