"""A folder that several processes sanitize, here and on a SLURM cluster: the
output is, byte for byte, that of one process."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import starting
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from babam_jax import errors
from babam_jax.sanitizer import folder, output

CLASSES = 9
# Half of the pictures are flagged and receive noise.
OPTIONS = ('--action=perturb', '--threshold=0.05')


def command(source, root, *options):
  given = (f'--input={source}', f'--output={root}', *options)
  return [sys.executable, '-m', 'launch.sanitize', *given]


def tell(line, env=None, status=0):
  done = starting.run(line, environment=env)
  assert done.returncode == status, done.stdout + done.stderr
  assert 'Traceback' not in done.stderr
  return done.stdout + done.stderr


@pytest.fixture(scope='module')
def untrusted(tmp_path_factory):
  """Classes of many sizes; one small, one with a file that is no picture."""
  root = tmp_path_factory.mktemp('in')
  rng = np.random.default_rng(0)
  for i in range(CLASSES):
    (root / f'p{i}').mkdir()
    for j in range(3 if i == 4 else 8 * (i + 3)):
      kind = rng.integers(2)
      side = (5, 70)[kind]  # smooth, or noise
      image = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
      resized = image.resize((70, 90), Image.Resampling.BICUBIC)
      resized.save(root / f'p{i}' / f'{j:03d}.png')
  (root / 'p2' / 'notes.txt').write_text('no picture')
  return root


@pytest.fixture(scope='module')
def alone(untrusted, tmp_path_factory):
  """The output of one process."""
  root = tmp_path_factory.mktemp('alone') / 'out'
  tell(command(untrusted, root, *OPTIONS), status=3)
  return root


def assert_same(root, alone):
  found, expected = (
    {
      path.relative_to(base): path.read_bytes()
      for path in base.rglob('*')
      if path.is_file() and path.name != 'report.html'  # it shows the command
    }
    for base in (root, alone)
  )
  assert found == expected
  assert (root / 'report.html').exists()


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 7))
def test_parts_are_dealt_by_bytes(sizes, count):
  groups = [folder.Group([str(i)], 1, n) for i, n in enumerate(sizes)]
  whole = folder.Inventory(len(sizes), {}, groups)
  dealt = [whole.dealt(folder.Part(n, count)) for n in range(1, count + 1)]
  each = [group for one in dealt for group in one.groups]
  assert sorted(each) == sorted(groups)  # each once
  assert [one.files for one in dealt] == [len(one.groups) for one in dealt]
  loads = [sum(group.size for group in one.groups) for one in dealt]
  assert max(loads) - min(loads) <= max(sizes, default=0)
  for one in dealt:  # in the order of all
    assert one.groups == [group for group in groups if group in one.groups]


@pytest.mark.slow
def test_parts_started_by_another_scheduler(untrusted, alone, tmp_path):
  """In any order, side by side, one of them twice."""
  root = tmp_path / 'out'
  lines = [
    command(untrusted, root, *OPTIONS, f'--part={part}')
    for part in ('2/3', '3/3', '1/3')
  ]
  running = [starting.Command(line) for line in lines]
  for one in running:
    ended = one.wait()
    assert ended.returncode == 0, ended.stderr
  assert not (root / 'scores.csv').exists()
  tell(lines[0])
  told = tell(command(untrusted, root, *OPTIONS), status=3)
  assert 'not judged, and not in the output: 1 of' in told
  assert_same(root, alone)
  assert 'is finished' in tell(lines[0])


def test_a_folder_that_parts_fill_is_theirs(untrusted, tmp_path):
  """Who does all waits until they have ended; each part has one process."""
  first = folder.Part(1, 2)
  held = output.Output(untrusted, tmp_path / 'out', {}, first)
  inventory = folder.inventory(untrusted)
  held.begin(inventory)
  other = output.Output(untrusted, tmp_path / 'out', {}, folder.Part(2, 2))
  assert other.inventory == inventory
  other.begin(inventory)
  with pytest.raises(errors.UserError, match='another run is filling'):
    output.Output(untrusted, tmp_path / 'out', {})
  with held, other:
    pass
  with output.Output(untrusted, tmp_path / 'out', {}) as whole:
    whole.begin(inventory)
    whole.close()
  assert not list((tmp_path / 'out').iterdir())


def test_one_part_has_one_process(untrusted, tmp_path, monkeypatch):
  monkeypatch.setattr(output, '_PART_SECONDS', 0)
  inventory = folder.inventory(untrusted)
  first = folder.Part(1, 2)
  with output.Output(untrusted, tmp_path / 'out', {}, first) as held:
    held.begin(inventory)
    again = output.Output(untrusted, tmp_path / 'out', {}, first)
    with pytest.raises(errors.UserError, match='another process does part 1/2'):
      again.begin(inventory)


def processes_of(part, root):
  """The processes that do a part, not those that wait for it."""
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      line = (path / 'cmdline').read_bytes().split(b'\0')
      if f'--part={part}'.encode() in line and b'babam_jax.cli' in line:
        if any(os.fsencode(root) in option for option in line):
          yield int(path.name)


def kill_once(part, root, done):
  """Kills the process that does a part, as soon as there is one."""
  while not done.is_set():
    for process in processes_of(part, root):
      os.kill(process, signal.SIGKILL)
      return
    time.sleep(0.02)


def kill_always(part, root, done):
  while not done.is_set():
    for process in processes_of(part, root):
      with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    time.sleep(0.02)


def starts(root, part):
  lines = (root.with_name('out.jobs') / part / 'attempts.jsonl').read_text()
  return lines.count('"start"'), lines.count('"status": -9')


def test_processes_share_a_folder(untrusted, alone, tmp_path):
  """One of them is killed, and is started again."""
  root, done = tmp_path / 'out', threading.Event()
  killer = threading.Thread(target=kill_once, args=('2/2', root, done))
  killer.start()
  line = command(untrusted, root, *OPTIONS, '--tasks=2')
  told = tell(line, status=3)
  done.set()
  killer.join()
  assert starts(root, 'part-2-of-2') == (2, 1)
  assert 'flagged; report' in told
  assert_same(root, alone)
  assert 'is finished' in tell(line, status=3)


@pytest.mark.slow
def test_a_part_waits_for_who_has_the_folder(untrusted, alone, tmp_path):
  """And finds that all is done."""
  root = tmp_path / 'out'
  whole = starting.Command(command(untrusted, root, *OPTIONS))
  state = root / '.sanitize-unfinished'
  while whole.is_running(0.01) and not (state / 'classes').is_dir():
    pass
  told = tell(command(untrusted, root, *OPTIONS, '--part=1/2'))
  assert whole.wait().returncode == 3
  assert 'waits while another process has it' in told
  assert 'is finished' in told
  assert_same(root, alone)
  assert not state.exists()


@pytest.mark.slow
def test_a_part_that_fails_is_told(untrusted, alone, tmp_path):
  """What it leaves is done all the same."""
  root = tmp_path / 'out'
  done = threading.Event()
  killer = threading.Thread(target=kill_always, args=('1/2', root, done))
  killer.start()
  told = tell(command(untrusted, root, *OPTIONS, '--tasks=2'), status=3)
  done.set()
  killer.join()
  assert 'part-1-of-2: not done; it printed to' in told
  assert_same(root, alone)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_who_ends_the_command_ends_its_parts(
  number, untrusted, alone, tmp_path
):
  root = tmp_path / 'out'
  line = command(untrusted, root, *OPTIONS, '--tasks=2')
  running = starting.Command(line)
  while not list(processes_of('1/2', root)):
    assert running.is_running(0.02)
  if number == signal.SIGINT:
    running.send(number)  # as a terminal does: to all of them
  else:
    os.kill(running.pid, number)
  assert running.wait(60).returncode == 128 + number
  assert not [*processes_of('1/2', root), *processes_of('2/2', root)]
  tell(line, status=3)
  assert_same(root, alone)


@pytest.mark.parametrize(
  'options,expected',
  [
    (['--part=0/3'], "--part: found '0/3', expected a number"),
    (['--part=4/3'], "--part: found '4/3'"),
    (['--part=two'], "--part: found 'two'"),
    (['--part=1/2', '--tasks=2'], '--part: found together'),
    (['--part=1/2', '--executor=slurm'], '--part: found together'),
    (['--executor=slurm'], "--executor=slurm: found no command 'sbatch'"),
    (['--tasks=0'], '--tasks'),
    (['--slurm.time=5'], '--slurm: found options without --executor=slurm'),
  ],
)
def test_mistakes(options, expected, untrusted, tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  told = tell(command(untrusted, tmp_path / 'out', *options), status=2)
  assert expected in told
  assert not (tmp_path / 'out').exists()


def test_a_part_of_a_folder_that_has_changed(untrusted, tmp_path):
  root = tmp_path / 'out'
  tell(command(untrusted, root, '--part=1/2'))
  theirs = folder.inventory(untrusted).dealt(folder.Part(2, 2)).groups[0]
  new = untrusted / theirs.names[0] / 'new'
  new.write_bytes(b'')
  try:
    told = tell(command(untrusted, root, '--part=2/2'), status=2)
    told += tell(command(untrusted, root), status=2)
  finally:
    new.unlink()
  assert told.count('has changed since') == 2


# --- SLURM ---


def requeue(job, environment, seconds=60):
  """Takes a job's node from it, once it has one."""
  deadline = time.monotonic() + seconds
  line = ['scontrol', 'requeue', job]
  while subprocess.run(line, env=environment, capture_output=True).returncode:
    assert time.monotonic() < deadline, f'{job} does not run'
    time.sleep(0.1)


@pytest.mark.slow
def test_a_cluster_shares_a_folder(slurm, untrusted, alone, tmp_path):
  """A process is killed, a job requeued."""
  root = tmp_path / 'out'
  options = ['--executor=slurm', '--tasks=3', '--slurm.time=20']
  line = command(untrusted, root, *OPTIONS, *options)
  done = threading.Event()
  killer = threading.Thread(target=kill_once, args=('1/3', root, done))
  killer.start()
  told = tell(line, env=slurm)
  assert '4 jobs submitted' in told and f'of {CLASSES} classes done' in told
  submitted = (tmp_path / 'out.jobs' / 'submissions.jsonl').read_text()
  (third,) = re.findall(r'"part-3-of-3": "(\w+)"', submitted)
  requeue(third, os.environ | slurm)
  told = tell(line, env=slurm)
  assert 'rest: PENDING' in told and 'submitted' not in told
  deadline = time.monotonic() + 240
  while 'flagged; report' not in told and time.monotonic() < deadline:
    time.sleep(3)
    done_now = starting.run(line, environment=slurm)
    told = done_now.stdout + done_now.stderr
  done.set()
  killer.join()
  assert starts(root, 'part-1-of-3') == (2, 1)
  assert_same(root, alone)


@pytest.mark.slow
def test_a_cluster_that_refuses(slurm, untrusted, tmp_path):
  root = tmp_path / 'out'
  line = command(untrusted, root, '--executor=slurm')
  told = tell([*line, '--slurm.nodes=2'], env=slurm, status=2)
  assert 'expected 1. Give --tasks' in told
  assert not root.exists()
  told = tell([*line, '--slurm.partition=x'], env=slurm, status=2)
  assert '--slurm: sbatch refused' in told
  # The same command, elsewhere: nothing is in the way.
  told = tell([*line, '--executor=local'], env=slurm, status=3)
  assert 'flagged; report' in told
