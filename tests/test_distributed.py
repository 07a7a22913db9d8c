"""Several processes that compute together: the same results as one."""

import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

import pytest
import slurm_cluster
from conftest import REPOSITORY, with_devices
from test_pipeline import command, results

from babam_jax import files

TWO_DEVICES = with_devices(2)
# Rows that divide among two devices, and rows that do not.
CHANGES = {
  'recognizer.epochs': 16,
  'recognizer.batch_size': 15,
  'attack.batch_size': 5,
}


def free_port():
  with socket.socket() as one:
    one.bind(('127.0.0.1', 0))
    return one.getsockname()[1]


def start(faces, folder, **changes):
  """Two processes of one device each."""
  line = command(faces, folder / 'run', folder / 'store', **CHANGES, **changes)
  port = free_port()
  return [
    subprocess.Popen(
      [
        *line,
        f'--coordinator=127.0.0.1:{port}',
        '--num_processes=2',
        f'--process_id={number}',
      ],
      cwd=REPOSITORY,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(2)
  ]


def finish(processes):
  told = [process.communicate()[1] for process in processes]
  assert [process.returncode for process in processes] == [0, 0], told


@pytest.fixture(scope='module')
def alone(faces, tmp_path_factory):
  """One process with two devices."""
  folder = tmp_path_factory.mktemp('alone')
  subprocess.run(
    command(faces, folder / 'run', folder / 'store', **CHANGES),
    cwd=REPOSITORY,
    env=os.environ | TWO_DEVICES,
    check=True,
    capture_output=True,
  )
  return folder


def check_same(folder, alone):
  """All that was measured, and every stored array."""
  found = files.read_json(folder / 'run' / 'metrics.json')
  expected = files.read_json(alone / 'run' / 'metrics.json')
  assert results(found) == results(expected)
  assert expected['models']['clean']['accuracy'] > 0.5
  compared = 0
  for path in sorted((alone / 'store').rglob('*.npz')):
    other = folder / 'store' / path.relative_to(alone / 'store')
    ours, theirs = files.read_arrays(path), files.read_arrays(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
      assert (array == theirs[name]).all(), (path.name, name)
      compared += 1
  assert compared > 20
  left = [p.name for p in (folder / 'store').iterdir() if p.is_dir()]
  assert not [name for name in left if name.endswith(('.scratch', '.output'))]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(faces, alone, tmp_path):
  finish(start(faces, tmp_path))
  check_same(tmp_path, alone)


@pytest.mark.slow
def test_two_killed_processes_continue(faces, alone, tmp_path):
  processes = start(faces, tmp_path)
  deadline = time.monotonic() + 120
  pattern = 'model-malicious-*.scratch/checkpoints/[1-9]*[0-9]'
  while not list((tmp_path / 'store').glob(pattern)):
    assert time.monotonic() < deadline
    time.sleep(0.01)
  for process in processes:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  finish(start(faces, tmp_path))
  check_same(tmp_path, alone)


def test_half_an_address_is_refused(faces, tmp_path):
  done = subprocess.run(
    [*command(faces, tmp_path, tmp_path), '--num_processes=2'],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and '--coordinator' in done.stderr
  assert 'Traceback' not in done.stderr


@pytest.mark.skipif(
  bool(slurm_cluster.why_not()), reason=slurm_cluster.why_not()
)
@pytest.mark.slow
def test_two_slurm_tasks_give_what_one_process_gives(faces, alone, tmp_path):
  line = command(faces, tmp_path / 'run', tmp_path / 'store', **CHANGES)
  with (
    tempfile.TemporaryDirectory(prefix='slurm') as name,
    slurm_cluster.cluster(pathlib.Path(name), cpus=2) as env,
  ):
    done = subprocess.run(
      ['srun', '--ntasks=2', *line, '--distributed'],
      cwd=REPOSITORY,
      env=env,
      capture_output=True,
      text=True,
    )
  assert done.returncode == 0, done.stderr
  check_same(tmp_path, alone)
