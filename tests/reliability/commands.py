"""The commands of the campaign, each with small work, and what it must give."""

import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from conftest import REPOSITORY, SMALL_RUN, write_faces
from starting import Command, python

from babam_jax import files
from babam_jax.store import keeping
from babam_jax.store.artifacts import Store

_PIRM = {
  'data.size': 72,
  'pirm.num_poison': 6,
  'pirm.num_clean': 9,
  'pirm.epochs': 2,
  'pirm.poison.iterations': 2,
  'pirm.poison.trigger_size': 16,
}
_SWEEP = """
from configs.common import get_config

def sweep(config):
  for epsilon in (0.01, 0.1):
    yield {'defense.noise.epsilon': epsilon}
"""
_LOCKS = ('.lock',)


def fingerprints(root: pathlib.Path) -> dict[str, str]:
  """The hashes of all files below a folder, by path; logs and locks left out,
  which say how it was made."""
  return {
    str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(root.rglob('*'))
    if path.is_file() and path.suffix not in _LOCKS
  }


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
  """Of a `metrics.json`, what two runs share: no seconds, no reuse."""
  keys = {name: stage['key'] for name, stage in metrics['stages'].items()}
  cost = {n: x for n, x in metrics['cost'].items() if n != 'seconds'}
  return metrics | {'stages': keys, 'cost': cost}


def _options(fields: dict[str, Any]) -> list[str]:
  return [f'--config.{name}={value}' for name, value in fields.items()]


class Case(NamedTuple):
  """A command with its work.

  Attributes:
    module: the command, of `launch`.
    arguments: its options, given the folder of its inputs; its outputs are
      in the folder where it runs.
    prepare: fills the folder of its inputs.
    result: what must be the same after any disturbance, given the folder in
      which it ran.
    begin: fills the folder in which it runs with what it needs there.
  """

  module: str
  arguments: Callable[[pathlib.Path], Sequence[object]]
  prepare: Callable[[pathlib.Path], object]
  result: Callable[[pathlib.Path], object]
  begin: Callable[[pathlib.Path, pathlib.Path], object] = lambda inputs, at: 0

  def start(self, inputs: pathlib.Path, folder: pathlib.Path, **how) -> Command:
    """Starts it, in the folder that is given."""
    line = python(self.module, *self.arguments(inputs))
    return Command(line, folder, **how)

  def fresh(self, inputs: pathlib.Path, folder: pathlib.Path) -> None:
    """Makes its folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    self.begin(inputs, folder)

  def undisturbed(self, inputs: pathlib.Path, folder: pathlib.Path) -> object:
    """Runs it to its end, and gives its result."""
    self.fresh(inputs, folder)
    check_done(self.start(inputs, folder).wait())
    return self.result(folder)


def check_done(ended: subprocess.CompletedProcess) -> None:
  """Checks that a command has ended well."""
  assert ended.returncode == 0, ended.stderr
  assert 'Traceback' not in ended.stderr


# --- sanitize ---


def _untrusted(inputs: pathlib.Path) -> None:
  write_faces(inputs / 'in', people=10, pictures=3, size=70)
  write_faces(inputs / 'in' / 'deep', people=1, pictures=2, size=200)


def _sanitize(inputs: pathlib.Path) -> list[object]:
  options = ['--threshold=0.01', '--action=perturb']
  return [f'--input={inputs / "in"}', '--output=out', *options]


# --- run ---


def _people(inputs: pathlib.Path) -> None:
  write_faces(inputs / 'people')


def _run(inputs: pathlib.Path) -> list[object]:
  return [
    f'--config={REPOSITORY}/configs/common.py',
    *_options(SMALL_RUN | {'data.root': inputs / 'people'}),
    '--workdir=work',
    '--artifacts=store',
  ]


def _run_result(folder: pathlib.Path) -> object:
  assert (folder / 'work' / 'report.html').is_file()
  _check_store(folder / 'store')
  return figures(files.read_json(folder / 'work' / 'metrics.json'))


def _check_store(store: pathlib.Path) -> None:
  """Checks that all artifacts are whole, and nothing else is there."""
  for kept in keeping.find(store):
    assert keeping.faults(kept) == []
  assert keeping.strangers(store) == []
  assert keeping.leftovers(store) == []


# --- pirm ---


def _natural(inputs: pathlib.Path) -> None:
  write_faces(inputs / 'natural', 3, 10)


def _pirm(inputs: pathlib.Path) -> list[object]:
  return [
    f'--config={REPOSITORY}/configs/pirm_natural.py',
    *_options(_PIRM | {'pirm.root': inputs / 'natural'}),
    '--workdir=work',
    '--artifacts=store',
    '--output=pirm.npz',
  ]


def _pirm_result(folder: pathlib.Path) -> object:
  _check_store(folder / 'store')
  stored = files.read_arrays(folder / 'pirm.npz')
  return {name: array.tobytes() for name, array in stored.items()}


# --- sweep ---


def _sweep_config(inputs: pathlib.Path) -> None:
  _people(inputs)
  (inputs / 'sweep.py').write_text(_SWEEP)


def _sweep(inputs: pathlib.Path) -> list[object]:
  fields = SMALL_RUN | {'data.root': inputs / 'people'}
  return [
    f'--config={inputs / "sweep.py"}',
    *_options(fields),
    '--workdir=work',
    '--artifacts=store',
  ]


def _sweep_result(folder: pathlib.Path) -> object:
  _check_store(folder / 'store')
  return (folder / 'work' / 'results.csv').read_text()


# --- artifacts gc ---

_KEPT, _IDLE = 6, 18


def _write(number: int, output: pathlib.Path, scratch: pathlib.Path) -> None:
  files.write_arrays(output / 'value.npz', {'value': np.full(50, number)})
  files.write_json(output / 'note.json', number)


def _full_store(inputs: pathlib.Path) -> None:
  root = inputs / 'store'
  used, idle = Store(root), Store(root)
  for number in range(_KEPT):
    used.stage('used', 1, {'n': number}, [], functools.partial(_write, number))
  for number in range(_IDLE):
    idle.stage('idle', 1, {'n': number}, [], functools.partial(_write, number))
  (root / 'killed-0123.scratch').mkdir()
  (root / 'killed-0123.scratch' / 'half').write_bytes(b'x' * 1000)
  run = inputs / 'runs' / 'one'
  files.write_json(run / 'config.json', {})
  files.write_json(run / 'metrics.json', {'stages': used.account()})


def _copy_store(inputs: pathlib.Path, folder: pathlib.Path) -> None:
  shutil.copytree(inputs / 'store', folder / 'store')


def _collect(inputs: pathlib.Path) -> list[object]:
  runs = f'--runs={inputs / "runs"}'
  return ['--artifacts=store', runs, '--delete', 'gc']


def _store_result(folder: pathlib.Path) -> object:
  _check_store(folder / 'store')
  assert len(os.listdir(folder / 'store')) >= _KEPT
  return fingerprints(folder / 'store')


CASES = {
  'sanitize': Case(
    'launch.sanitize',
    _sanitize,
    _untrusted,
    lambda folder: fingerprints(folder / 'out'),
  ),
  'artifacts gc': Case(
    'launch.artifacts', _collect, _full_store, _store_result, _copy_store
  ),
  'run': Case('launch.main', _run, _people, _run_result),
  'pirm': Case('launch.pirm', _pirm, _natural, _pirm_result),
  'sweep': Case('launch.sweep', _sweep, _sweep_config, _sweep_result),
}
