"""Files of ours that are broken on purpose: PIRMs, artifacts, records of runs
and of sanitized folders, prepared data sets.

Each is read, or refused in one line that names it; nothing in it is run, and
nothing is written. Weights of networks: `tests/test_weights.py`.
"""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import prepared_data
import pytest
from commands import fingerprints
from mutating import mutated, mutated_json

from babam_jax import errors, files
from babam_jax.config import rules
from babam_jax.data import datasets
from babam_jax.defenses import pirm
from babam_jax.experiment import environment
from babam_jax.runs import collection, plan
from babam_jax.runs.plan import Run
from babam_jax.sanitizer import folder as untrusted
from babam_jax.sanitizer import output
from babam_jax.sanitizer.record import Record
from babam_jax.store import keeping
from babam_jax.store.artifacts import Store
from configs import common


class Kind(NamedTuple):
  """A kind of files.

  Attributes:
    make: makes sound ones in a folder.
    read: all that commands do with them, given the folder.
    names: patterns of the files that are broken.
    counts: how many are broken in the default suite, and in the long form.
  """

  make: Callable[[pathlib.Path], object]
  read: Callable[[pathlib.Path], object]
  names: tuple[str, ...]
  counts: tuple[int, int]


# --- PIRMs ---


def _make_pirm(root):
  shutil.copy(pirm.SHIPPED['shipped'], root / 'pirm.npz')


def _read_pirm(root):
  found = pirm.load(root / 'pirm.npz')
  for array in found.variables['params'].values():
    assert array is not None
  assert np.isfinite(found.calibration.slope)


# --- Artifacts ---


def _compute(output_folder, scratch):
  files.write_arrays(output_folder / 'value.npz', {'x': np.arange(50.0)})
  files.write_json(output_folder / 'note.json', {'a': [1, 2]})
  return {'surrogate': 3}


def _stages(root):
  store = Store(root / 'store')
  first = store.stage('first', 1, {}, [], _compute)
  return first, store.stage('second', 1, {}, [first], _compute)


def _read_store(root):
  for artifact in _stages(root):
    assert set(artifact.arrays('value')) == {'x'}
    assert artifact.json('note') == {'a': [1, 2]}
  store = root / 'store'
  for kept in keeping.find(store):
    keeping.faults(kept)
  keeping.strangers(store)


# --- Runs ---


def _metrics(rate):
  model = {
    'accuracy': rate,
    'accuracy_ci': [0.1, 0.9],
    'asr': rate,
    'asr_ci': [0.1, 0.9],
    'asr_unpatched': rate,
    'asr_unpatched_ci': [0.1, 0.9],
    'source_accuracy_patched': rate,
    'test_pictures': 30,
    'source_test_pictures': 10,
  }
  rates = {'accuracy': rate, 'tpr': rate, 'fpr': None, 'auroc': rate}
  counts = {'num_poisoned': 4, 'num_clean': 40}
  return {
    'models': {'clean': model, 'protected': model},
    'pirm': {'training_set': rates | counts},
    'detection': rates | counts,
    'stages': {'pirm': {'key': 'abc', 'seconds': 1.5, 'reused': False}},
  }


def _runs(root):
  found = []
  for name, seed in (('a', 0), ('b', 1)):
    config = common.get_config()
    config.seed = seed
    row = plan.Row(name, {'seed': seed})
    found.append(Run(name, root / 'runs' / name, config, {'seed': seed}, row))
  return found


def _make_runs(root):
  for number, run in enumerate(_runs(root)):
    rules.write_config(run.folder, run.config)
    files.write_json(run.folder / 'metrics.json', _metrics(0.5 + number / 10))
    surroundings = environment.describe('x')
    files.write_json(run.folder / 'environment.json', surroundings)
    record = json.dumps({'epoch': 1, 'step': 1, 'loss': 1.0, 'accuracy': 0.5})
    history = run.folder / 'training' / 'malicious.jsonl'
    files.write_text(history, f'{record}\n{record}\n')


def _read_runs(root):
  runs = _runs(root)
  for run in runs:
    rules.check_workdir(run.folder, run.config)
  keeping.uses(root / 'runs')
  found = collection.find(root / 'runs')
  collection.sections(root / 'runs', found)


# --- Sanitized folders ---


def _begun(root):
  being_made = output.Output(root / 'in', root / 'out', {'action': 'perturb'})
  inventory = untrusted.inventory(root / 'in')
  being_made.begin(inventory)
  return being_made, inventory


def _make_sanitized(root):
  (root / 'in' / 'ann').mkdir(parents=True)
  (root / 'in' / 'ann' / '0.png').write_bytes(b'x')
  being_made, inventory = _begun(root)
  record = Record('ann/0.png', 'ann', True, 0.5, True)
  being_made.finish_class('ann', inventory.fingerprints['ann'], [record])


def _read_sanitized(root):
  being_made, inventory = _begun(root)
  records = being_made.records('ann', inventory.fingerprints['ann'])
  assert records is None or len(records) <= 1


# --- Prepared data sets ---


def _make_prepared(root):
  pytest.importorskip('tensorflow_datasets')
  prepared_data.prepare(root)
  for path in root.iterdir():
    if path.name != 'like_lfw':
      shutil.rmtree(path)


def _read_prepared(root):
  for picture in datasets.find_pictures('tfds:like_lfw', str(root)):
    try:
      assert isinstance(picture.read(), bytes)
    except OSError as error:  # commands print it in one line
      assert error.filename.startswith('tfds:like_lfw')
      assert '\n' not in error.strerror


KINDS = {
  'PIRM': Kind(_make_pirm, _read_pirm, ('pirm.npz',), (60, 2500)),
  'artifact': Kind(_stages, _read_store, ('store/*/*',), (60, 3000)),
  'run': Kind(_make_runs, _read_runs, ('runs/**/*.json*',), (60, 3000)),
  'sanitized': Kind(
    _make_sanitized,
    _read_sanitized,
    ('out/.sanitize-unfinished/**/*.json',),
    (60, 1500),
  ),
  'prepared': Kind(
    _make_prepared, _read_prepared, ('like_lfw/*/*',), (60, 2500)
  ),
}


# What NumPy has to say of such files.
pytestmark = pytest.mark.filterwarnings(
  'ignore::DeprecationWarning', 'ignore::SyntaxWarning'
)


@pytest.mark.parametrize('name', KINDS)
def test_some_broken_files(tmp_path, name, record_property):
  record_property('files', _campaign(tmp_path, KINDS[name], place=0))


@pytest.mark.slow
@pytest.mark.parametrize('name', KINDS)
def test_many_broken_files(tmp_path, name, record_property):
  record_property('files', _campaign(tmp_path, KINDS[name], place=1))


def _campaign(root, kind, place):
  sound = root / 'sound'
  sound.mkdir()
  kind.make(sound)
  kind.read(sound)
  contents = {
    path: path.read_bytes()
    for pattern in kind.names
    for path in sorted(sound.glob(pattern))
    if path.is_file() and path.suffix != '.lock'
  }
  assert contents
  # Where the sound ones have been: paths in records are as they were.
  sound.rename(root / 'kept')
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(kind.counts[place]):
    shutil.rmtree(sound, ignore_errors=True)
    shutil.copytree(root / 'kept', sound)
    path = list(contents)[rng.integers(len(contents))]
    path.write_bytes(_broken(rng, path, list(contents.values())))
    refused += _is_refused(kind, sound)
  assert refused
  return {'broken': kind.counts[place], 'refused': refused}


def _broken(rng, path, others):
  content = path.read_bytes()
  if path.suffix == '.json' and rng.random() < 0.5:
    return mutated_json(rng, content)
  return mutated(rng, content, others)


def _is_refused(kind, root):
  before = fingerprints(root)
  try:
    kind.read(root)
  except errors.UserError as error:
    told = str(error)
    assert '\n' not in told and len(told) < 1500, told
    assert str(root) in told or 'config.' in told, told
    return True
  finally:
    assert fingerprints(root) == before
  return False
