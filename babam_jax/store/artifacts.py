"""A content-addressed store of stage results: whole or absent, made once.

A stage is a pure function of its config, its inputs and the seed. Its key is
a SHA-256 over the stage's name and version, its config and its inputs' keys,
so whoever needs the same result - a second run, another experiment, a sweep -
finds it under `<root>/<stage>-<key>/`.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from babam_jax import errors, files, invocation, locks
from babam_jax.progress import say
from babam_jax.training import parallel

RECORD = 'stage.json'
_KEY_LENGTH = 16  # hexadecimal digits of the key in folder names


@dataclasses.dataclass(frozen=True)
class Artifact:
  """The stored result of a stage.

  Attributes:
    stage: the name of the stage.
    key: a hash of all that it depends on.
    folder: the folder of its files.
    seconds: how long it took to make, in whichever run, without the stages
      made inside it.
    reused: whether it existed already.
    evaluations: the evaluations of networks that the stage counted; None if it
      does not count.
  """

  stage: str
  key: str
  folder: pathlib.Path
  seconds: float
  reused: bool
  evaluations: dict[str, int] | None = None

  def arrays(self, name: str) -> dict[str, np.ndarray]:
    """The arrays of the file `<name>.npz`.

    Raises:
      UserError: it is damaged.
    """
    with self.whole(f'{name}.npz') as path:
      return files.read_arrays(path)

  def json(self, name: str) -> Any:
    """The contents of the file `<name>.json`.

    Raises:
      UserError: it is damaged.
    """
    file = f'{name}.json'
    with _as_written(self.folder, RECORD):
      expected = read_record(self.folder)['files'].get(file)
    with self.whole(file) as path:
      # Unlike arrays, JSON has no checksums of its own.
      if checksum(path) != expected:
        raise ValueError('it has changed')
      return files.read_json(path)

  @contextlib.contextmanager
  def whole(self, name: str = '') -> Iterator[pathlib.Path]:
    """A file of it, or the folder; what cannot be read there is damaged.

    Raises:
      UserError: it is damaged.
    """
    with _as_written(self.folder, name):
      yield self.folder / name


@contextlib.contextmanager
def _as_written(folder: pathlib.Path, name: str) -> Iterator[None]:
  path = folder / name
  remedy = (
    f'Remove the folder {folder}, and it is made anew; '
    f'`{invocation.line("artifacts")} verify` finds others like it.'
  )
  with files.as_written(path, '--artifacts', remedy):
    try:
      yield
    except OSError as error:
      raise ValueError(error.strerror or error) from None


# Writes results; what it returns is kept as `Artifact.evaluations`.
Compute = Callable[[pathlib.Path, pathlib.Path], dict[str, int] | None]


class _Clock:
  """Measures the time of stages, without that of stages made inside them."""

  def __init__(self):
    self._inside = [0.0]  # for each stage at work: seconds of stages inside it

  def measure(self, compute: Callable[[], Any]) -> tuple[Any, float]:
    """What `compute` returns, and its own seconds."""
    start = time.monotonic()
    self._inside.append(0.0)
    try:
      found = compute()
    finally:
      whole = time.monotonic() - start
      own = whole - self._inside.pop()
      self._inside[-1] += whole
    return found, own


class Store:
  """The artifacts below one folder, which processes and runs may share.

  Attributes:
    used: the artifacts asked for so far, by key, in order.
  """

  def __init__(self, root: pathlib.Path):
    self._root = root.absolute()
    self.used: dict[str, Artifact] = {}
    self._clock = _Clock()
    # For each stage at work, the folders of the artifacts used inside it.
    self._inside: list[list[str]] = [[]]

  def stage(
    self,
    name: str,
    version: int,
    config: dict[str, Any],
    inputs: Sequence[Artifact],
    compute: Compute,
  ) -> Artifact:
    """Returns the result of a stage, and makes it first if need be.

    Args:
      name: the name of the stage; after a slash it may say what it is for.
      version: raised whenever the stage's code changes its result.
      config: all settings that the result depends on, the seed included.
      inputs: the artifacts that the result depends on.
      compute: `(output, scratch)` writes the result's files into the folder
        `output`. What it keeps in `scratch` survives a kill, so that it can
        continue where it was. It may return counts of evaluations.
    """
    depends = {
      'stage': name,
      'version': version,
      'config': config,
      'inputs': [artifact.key for artifact in inputs],
    }
    canonical = json.dumps(depends, sort_keys=True)
    key = hashlib.sha256(canonical.encode()).hexdigest()
    if key not in self.used:
      self.used[key] = self._obtain(name, key, depends, compute)
    artifact = self.used[key]
    self._inside[-1].append(artifact.folder.name)
    return artifact

  def _obtain(
    self, name: str, key: str, depends: dict[str, Any], compute: Compute
  ) -> Artifact:
    folder = self._root / f'{name.replace("/", "-")}-{key[:_KEY_LENGTH]}'
    reused = parallel.first_says(folder.is_dir())
    if not reused:
      self._root.mkdir(parents=True, exist_ok=True)
      with _alone(folder):
        # Another run may have made it meanwhile.
        reused = parallel.first_says(folder.is_dir())
        if not reused:
          say(f'{name}: computing')
          self._compute(folder, depends | {'key': key}, compute)
    else:
      say(f'{name}: reused')
    artifact = _read(folder, reused)
    with _as_written(folder, RECORD):
      if artifact.key != key:
        raise ValueError(f'its key is {artifact.key!r:.50}')
    if reused:
      _remove_scratch(folder)
      self._recall_inside(folder)
    return artifact

  def _compute(
    self, folder: pathlib.Path, record: dict[str, Any], compute: Compute
  ) -> None:
    """Makes an artifact; its record names the artifacts used inside."""

    def recording(
      output: pathlib.Path, scratch: pathlib.Path
    ) -> dict[str, int] | None:
      self._inside.append([])
      try:
        return compute(output, scratch)
      finally:
        record['inside'] = list(dict.fromkeys(self._inside.pop()))

    _make(folder, record, recording, self._clock)

  def _recall_inside(self, folder: pathlib.Path) -> None:
    """Counts the artifacts used in making a reused one as used, too."""
    with _as_written(folder, RECORD):
      names = read_record(folder).get('inside') or ()
    for name in names:
      inside = self._root / name
      if inside.is_dir():
        artifact = _read(inside, reused=True)
        if artifact.key not in self.used:
          self._recall_inside(inside)
          self.used[artifact.key] = artifact

  def account(self) -> dict[str, dict[str, Any]]:
    """The seconds of each stage, whether it was reused, and its key.

    Several results of one stage are numbered: 'pirm', 'pirm (2)'.
    """
    found: dict[str, dict[str, Any]] = {}
    for artifact in self.used.values():
      name, number = artifact.stage, 1
      while name in found:
        number += 1
        name = f'{artifact.stage} ({number})'
      found[name] = {
        'seconds': artifact.seconds,
        'reused': artifact.reused,
        'key': artifact.key,
      }
    return found


def _read(folder: pathlib.Path, reused: bool) -> Artifact:
  with _as_written(folder, RECORD):
    record = read_record(folder)
  return Artifact(
    record['stage'],
    record['key'],
    folder,
    record['seconds'],
    reused,
    record.get('evaluations'),
  )


def read_record(folder: pathlib.Path) -> dict[str, Any]:
  """The record of an artifact: its stage, its key, the keys of its inputs, its
  seconds, and the checksums of its files.

  Raises:
    ValueError: it is damaged.
    OSError: there is none.
  """
  record = files.read_json(folder / RECORD)
  if not isinstance(record, dict):
    raise ValueError('it is no record')
  for name, is_right in _RECORD_FIELDS.items():
    if not is_right(record.get(name)):
      raise ValueError(f'its {name!r} is {record.get(name, "missing")!r:.50}')
  if not folder.name.endswith(record['key'][:_KEY_LENGTH]):
    raise ValueError(f'its key is {record["key"]!r:.50}')
  return record


def _are_names(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(x, str) for x in value)


_RECORD_FIELDS: dict[str, Callable[[Any], bool]] = {
  'stage': lambda x: isinstance(x, str),
  'key': lambda x: isinstance(x, str),
  'inputs': _are_names,
  'seconds': lambda x: isinstance(x, int | float),
  'files': lambda x: (
    isinstance(x, dict) and all(isinstance(y, str) for y in x.values())
  ),
  'inside': lambda x: x is None or _are_names(x),
  'evaluations': lambda x: (
    x is None
    or (isinstance(x, dict) and all(isinstance(y, int) for y in x.values()))
  ),
}


def file_names(folder: pathlib.Path) -> list[str]:
  """The files of an artifact, its record left out."""
  found = (path.relative_to(folder) for path in sorted(folder.rglob('*')))
  return [
    path.as_posix()
    for path in found
    if path.name != RECORD and (folder / path).is_file()
  ]


def checksum(path: pathlib.Path) -> str:
  """SHA-256 of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _alone(folder: pathlib.Path) -> contextlib.AbstractContextManager:
  """Keeps other runs from making this artifact meanwhile."""
  if parallel.process_id():  # the first process holds it for all
    return contextlib.nullcontext()
  return locks.held(lock_of(folder))


def _remove_scratch(folder: pathlib.Path) -> None:
  """Removes what a kill has left that came when the artifact was complete."""
  scratch = _scratch_of(folder)
  if scratch.is_dir() and not parallel.process_id():
    # Its maker is about to do it; or we may only read here.
    with contextlib.suppress(locks.BusyError, errors.UserError, OSError):
      with locks.held(lock_of(folder), seconds=0):
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch_of(folder: pathlib.Path) -> pathlib.Path:
  return folder.with_name(folder.name + '.scratch')


def lock_of(folder: pathlib.Path) -> pathlib.Path:
  """The file of the lock of an artifact's folder."""
  return folder.with_name(folder.name + '.lock')


def _make(
  folder: pathlib.Path, record: dict[str, Any], compute: Compute, clock: _Clock
) -> None:
  """Makes an artifact; of several processes the first one writes it."""
  scratch = _scratch_of(folder)
  if parallel.process_id() == 0:
    scratch.mkdir(exist_ok=True)
    parallel.wait_for_all(f'{folder.name}: asked for')
    parallel.wait_for_all(f'{folder.name}: read by all')
    _write(folder, scratch, record, compute, clock)
  else:
    _help(scratch, folder.name, compute)
  parallel.wait_for_all(f'{folder.name}: made')


def _help(scratch: pathlib.Path, name: str, compute: Compute) -> None:
  """Computes with the first process, from a copy of its scratch folder."""
  with tempfile.TemporaryDirectory() as folder:
    mine = pathlib.Path(folder)
    (mine / 'output').mkdir()
    parallel.wait_for_all(f'{name}: asked for')
    shutil.copytree(scratch, mine / 'scratch')
    parallel.wait_for_all(f'{name}: read by all')
    compute(mine / 'output', mine / 'scratch')


def _write(
  folder: pathlib.Path,
  scratch: pathlib.Path,
  record: dict[str, Any],
  compute: Compute,
  clock: _Clock,
) -> None:
  """Computes into a temporary folder, syncs, renames."""
  output = folder.with_name(folder.name + '.output')
  shutil.rmtree(output, ignore_errors=True)  # left by a killed run
  output.mkdir()
  try:
    evaluations, seconds = clock.measure(lambda: compute(output, scratch))
  except BaseException:
    shutil.rmtree(output, ignore_errors=True)
    if not any(scratch.iterdir()):
      scratch.rmdir()
    raise
  record |= {
    'seconds': round(seconds, 3),
    'evaluations': evaluations,
    'files': {name: checksum(output / name) for name in file_names(output)},
  }
  files.write_json(output / RECORD, record)
  files.sync_folder(output)
  os.rename(output, folder)
  files.sync_folder(folder.parent)
  shutil.rmtree(scratch)
