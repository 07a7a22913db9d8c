"""What lies in a store, and how it is kept: `launch.artifacts`."""

import os
import random
import signal
import time

import filelock
import numpy as np
import pytest
import starting

from babam_jax import errors, files
from babam_jax.store import keeping
from babam_jax.store.artifacts import Store


def write_value(value):
  def compute(output, scratch):
    files.write_arrays(output / 'value.npz', {'value': np.array(value)})

  return compute


@pytest.fixture
def store(tmp_path):
  """Poison, a model that was trained on it, and something nobody used."""
  root = tmp_path / 'store'
  made = Store(root)
  poison = made.stage('poison', 1, {}, [], write_value(1))
  made.stage('model', 1, {}, [poison], write_value(2))
  Store(root).stage('idle', 1, {}, [], write_value(3))
  run = tmp_path / 'runs' / 'one'
  files.write_json(run / 'config.json', {})
  stages = {'model': made.account()['model']}
  files.write_json(run / 'metrics.json', {'stages': stages})
  (root / 'killed-0123.scratch').mkdir()
  return root


def run(store, *arguments):
  return starting.run(
    starting.python('launch.artifacts', f'--artifacts={store}', *arguments)
  )


def test_listing_says_what_uses_what(store, tmp_path):
  done = run(store, f'--runs={tmp_path / "runs"}', 'ls')
  assert done.returncode == 0, done.stderr
  lines = {
    line.split()[1].split('-')[0]: line.split('│')[4:-1]
    for line in done.stdout.splitlines()
    if line.startswith('│')
  }
  counts = {name: [int(n) for n in found] for name, found in lines.items()}
  # Made from, makes, used by runs.
  assert counts == {'poison': [0, 1, 0], 'model': [1, 0, 1], 'idle': [0, 0, 0]}
  assert 'unfinished: killed-0123.scratch' in done.stdout
  assert '3 artifacts' in done.stdout


def test_damage_is_found(store):
  assert run(store, 'verify').returncode == 0
  (kept,) = [k for k in keeping.find(store) if k.stage == 'poison']
  path = kept.folder / 'value.npz'
  content = bytearray(path.read_bytes())
  content[-30] ^= 1
  path.write_bytes(content)
  (kept.folder / 'extra').write_text('x')
  done = run(store, 'verify')
  assert done.returncode == 3
  assert 'value.npz has changed' in done.stdout
  assert 'extra is no part of it' in done.stdout
  path.unlink()
  assert 'value.npz is missing' in keeping.faults(kept)


def names(store):
  return sorted(p.name.split('-')[0] for p in store.iterdir() if p.is_dir())


def test_only_what_no_run_needs_is_removed(store, tmp_path):
  runs = f'--runs={tmp_path / "runs"}'
  done = run(store, runs, 'gc')
  assert done.returncode == 0, done.stderr
  assert 'not needed: idle' in done.stdout
  assert names(store) == ['idle', 'killed', 'model', 'poison']
  with filelock.FileLock(store / 'killed-0123.lock'):
    done = run(store, runs, '--delete', 'gc')
  assert done.returncode == 0, done.stderr
  assert 'at work on it: killed-0123' in done.stdout
  assert names(store) == ['killed', 'model', 'poison']
  run(store, runs, '--delete', 'gc')
  assert names(store) == ['model', 'poison']


def test_a_study_needs_what_its_runs_need(store, tmp_path):
  """Beside its runs it has a config and metrics of its own."""
  study = tmp_path / 'runs' / 'study'
  files.write_json(study / 'config.json', {})
  files.write_json(study / 'metrics.json', {'title': 'x', 'rows': []})
  (tmp_path / 'runs' / 'one').rename(study / 'one')
  done = run(store, f'--runs={tmp_path / "runs"}', '--delete', 'gc')
  assert done.returncode == 0, done.stderr
  assert names(store) == ['model', 'poison']


def test_unfinished_runs_keep_everything(store, tmp_path):
  files.write_json(tmp_path / 'runs' / 'two' / 'config.json', {})
  done = run(store, f'--runs={tmp_path / "runs"}', '--delete', 'gc')
  assert done.returncode == 2 and 'is not finished' in done.stderr
  assert names(store) == ['idle', 'killed', 'model', 'poison']


@pytest.mark.parametrize(
  'arguments,told',
  [
    ([], "expected 'ls'"),
    (['dance'], "expected 'ls'"),
    (['gc'], '--runs: is missing'),
    (['--runs=nowhere', 'gc'], '--runs: no working folder'),
  ],
)
def test_mistakes(store, arguments, told):
  done = run(store, *arguments)
  assert done.returncode == 2 and told in done.stderr
  assert 'Traceback' not in done.stderr


def test_no_folder_is_told(tmp_path):
  with pytest.raises(errors.UserError, match='no folder'):
    keeping.find(tmp_path / 'none')


def test_what_cannot_be_read_hides_nothing_else(store, tmp_path):
  """A stranger, a record that is torn, a file that is gone."""
  (store / 'holidays').mkdir()
  by_stage = {kept.stage: kept.folder for kept in keeping.find(store)}
  (by_stage['idle'] / 'stage.json').write_text('{')
  (by_stage['model'] / 'value.npz').unlink()
  done = run(store, 'verify')
  assert done.returncode == 3 and 'Traceback' not in done.stderr
  for told in ('holidays is no artifact', 'idle-', 'value.npz is missing'):
    assert told in done.stdout
  assert '3 of 4 damaged' in done.stdout
  assert 'holidays' in run(store, 'ls').stdout
  done = run(store, f'--runs={tmp_path / "runs"}', '--delete', 'gc')
  assert done.returncode == 0 and 'stays: ' in done.stdout
  assert names(store) == ['holidays', 'idle', 'model', 'poison']


def test_a_damaged_artifact_is_told_to_who_reads_it(store):
  (kept,) = [k for k in keeping.find(store) if k.stage == 'poison']
  found = Store(store).stage('poison', 1, {}, [], write_value(1))
  for damage in (b'', b'PK', (kept.folder / 'value.npz').read_bytes()[:60]):
    (kept.folder / 'value.npz').write_bytes(damage)
    with pytest.raises(errors.UserError, match='value.npz is damaged'):
      found.arrays('value')
  with pytest.raises(errors.UserError, match='other.json is damaged'):
    found.json('other')


def test_two_who_remove_the_same(store):
  (kept,) = [k for k in keeping.find(store) if k.stage == 'idle']
  # What a kill has left, before the artifact was made again.
  removed = kept.folder.with_name(kept.folder.name + '.removed')
  removed.mkdir()
  (removed / 'half').write_bytes(b'x')
  assert keeping.remove(kept.folder) and keeping.remove(kept.folder)
  assert names(store) == ['killed', 'model', 'poison']
  assert not removed.exists()


def test_what_is_left_beside_a_finished_artifact(store):
  (kept,) = [k for k in keeping.find(store) if k.stage == 'poison']
  scratch = kept.folder.with_name(kept.folder.name + '.scratch')
  for can_lock in (False, True):
    scratch.mkdir()
    (scratch / 'half').write_bytes(b'x')
    lock = kept.folder.with_name(kept.folder.name + '.lock')
    if not can_lock:  # it may only be read
      lock.unlink()
      lock.mkdir()
    found = Store(store).stage('poison', 1, {}, [], write_value(1))
    assert found.reused and found.arrays('value')['value'] == 1
    assert scratch.exists() != can_lock
    if not can_lock:
      lock.rmdir()
      (scratch / 'half').unlink()
      scratch.rmdir()


def test_a_damaged_record_is_named(store):
  (kept,) = [k for k in keeping.find(store) if k.stage == 'poison']
  found = Store(store).stage('poison', 1, {}, [], write_value(1))
  (kept.folder / 'stage.json').write_text('{')
  with pytest.raises(errors.UserError, match='stage.json is damaged'):
    found.json('value')
  with pytest.raises(errors.UserError, match='stage.json is damaged'):
    Store(store).stage('poison', 1, {}, [], write_value(1))


_SIZE = 2000


def work(root, number, log):
  """Asks for stages for ever; each says who made it, and must be whole."""
  rng = random.Random(number)
  while True:
    value = rng.randrange(40)
    store = Store(root)

    def compute(output, scratch, value=value):
      counted = scratch / 'count'
      done = int(counted.read_text()) if counted.exists() else 0
      for i in range(done, 3):
        time.sleep(rng.random() * 0.01)
        files.write_text(counted, str(i + 1))
      files.write_arrays(output / 'value.npz', {'value': np.full(_SIZE, value)})
      with open(log, 'a') as file:  # one short line: written at once
        file.write(f'{value}\n')

    artifact = store.stage('stage', 1, {'value': value}, [], compute)
    assert (artifact.arrays('value')['value'] == value).all()


@pytest.mark.slow
def test_many_writers_and_readers_under_kills(tmp_path):
  """Sixteen processes, killed at random: nothing torn, nothing twice."""
  hammer(tmp_path, processes=16, kills=60)


@pytest.mark.slow
def test_fifty_writers_and_readers_a_thousand_kills(tmp_path):
  hammer(tmp_path, processes=50, kills=1000)


def hammer(tmp_path, processes, kills):
  rng = random.Random(0)
  root, log = tmp_path / 'store', tmp_path / 'log'
  root.mkdir()

  def made():
    return [
      path for path in root.iterdir() if path.is_dir() and not path.suffix
    ]

  def wait_for(count):
    deadline = time.monotonic() + 120
    while len(made()) < count and time.monotonic() < deadline:
      time.sleep(0.05)

  def start(number):
    worker = starting.CONTEXT.Process(target=work, args=(root, number, log))
    worker.start()
    return worker

  workers = [start(n) for n in range(processes)]
  killed = 0
  try:
    wait_for(1)  # before it, a process would be killed in its imports
    for round_number in range(kills):
      time.sleep(rng.random() * 0.05)
      place = rng.randrange(processes)
      assert workers[place].is_alive()  # none ever failed by itself
      os.kill(workers[place].pid, signal.SIGKILL)
      workers[place].join()
      killed += workers[place].exitcode == -signal.SIGKILL
      workers[place] = start(processes + round_number)
    wait_for(40)
  finally:
    for worker in workers:
      worker.kill()
      worker.join()
  assert killed == kills
  kept = keeping.find(root)
  assert len(kept) == 40
  for one in kept:
    assert keeping.faults(one) == []
  # Made twice only if the first maker was killed before its rename.
  makers = log.read_text().split()
  assert len(makers) <= 40 + kills and set(makers) == set(map(str, range(40)))
