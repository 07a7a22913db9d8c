"""Signals, a memory that ends, inputs that vanish, disks that fill: one line
says so, and the same command ends the work, with the same result."""

import os
import random
import resource
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import starting
from commands import CASES, check_done, fingerprints

_RUNS_FAILED = 3  # the exit status of a sweep
# Without memory for a thread, the library that saves their checkpoints may wait
# for it forever. Whoever kills such a process loses nothing.
_MAY_HANG = ('run', 'pirm', 'sweep')
_PAGE = os.sysconf('SC_PAGE_SIZE')


class Work(NamedTuple):
  """What is disturbed.

  Attributes:
    case: the command.
    inputs: the folder of its inputs.
    folder: where it runs.
    seconds: how long it takes undisturbed.
    hung: the disturbances after which it had to be killed.
  """

  case: object
  inputs: object
  folder: object
  seconds: float
  hung: list


def _signaled(work, rng, number):
  running = work.case.start(work.inputs, work.folder)
  if running.is_running(rng.random() * work.seconds):
    running.send(number)
  return running.wait()


def _terminate(work, rng):
  ended = _signaled(work, rng, signal.SIGTERM)
  assert ended.returncode in (0, -signal.SIGTERM), ended.stderr


def _interrupt(work, rng):
  ended = _signaled(work, rng, signal.SIGINT)
  assert ended.returncode in (0, 130, -signal.SIGINT), ended.stderr
  if ended.returncode == 130:
    assert 'the same command continues' in ended.stderr
    assert 'Traceback' not in ended.stderr, ended.stderr


class _Limit(NamedTuple):
  """Gives the process so many more bytes of memory than it has."""

  more: int

  def __call__(self):
    with open('/proc/self/statm') as file:
      size = int(file.read().split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (size + self.more,) * 2)


def _end_memory(work, rng):
  limit = _Limit(rng.randrange(8 << 20, 800 << 20))
  try:
    ended = work.case.start(work.inputs, work.folder, before=limit).wait()
  except starting.HungError:
    if work.case not in [CASES[name] for name in _MAY_HANG]:
      raise
    work.hung.append('memory')
    return
  if ended.returncode > 0:  # otherwise a library has aborted
    _check_told(ended, 'memory')


def _let_vanish(work, rng):
  running = work.case.start(work.inputs, work.folder)
  gone = work.inputs.with_name('gone')
  running.is_running(rng.random() * work.seconds)
  work.inputs.rename(gone)
  try:
    ended = running.wait()
  finally:
    gone.rename(work.inputs)
  if ended.returncode:
    _check_told(ended, str(work.inputs))


def _check_told(ended, *reasons):
  """Checks that one line gives one of the reasons; of a sweep, whose runs are
  processes of their own, that it says which are not done."""
  # When memory ends, libraries log what happens in their threads.
  assert 'Traceback' not in ended.stderr or 'memory' in reasons, ended.stderr
  if ended.returncode == _RUNS_FAILED:
    assert 'not done' in ended.stderr
    return
  assert ended.returncode in (1, 2), ended.stderr
  lines = [line for line in ended.stderr.splitlines() if 'error:' in line]
  assert len(lines) == 1, ended.stderr
  assert any(reason in lines[0] for reason in reasons), lines[0]


@contextmanager
def _disk(folder):
  """Makes a folder a disk of its own; gives what sets its size."""
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=1g', 'tmpfs', folder]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting a disk needs root')

  def resize(size):
    options = f'remount,size={size}'
    subprocess.run(['mount', '-o', options, folder], check=True)

  try:
    yield resize
  finally:
    subprocess.run(['umount', folder], check=True)


def _fill_disk(work, rng):
  needed = sum(
    path.stat().st_size for path in work.folder.with_name('whole').rglob('*')
  )
  with _disk(work.folder) as resize:
    work.case.begin(work.inputs, work.folder)
    disk = os.statvfs(work.folder)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    resize(used + rng.randrange(8 << 10, max(needed, 64 << 10)))
    ended = work.case.start(work.inputs, work.folder).wait()
    if ended.returncode:
      _check_told(ended, 'o space left', 'bytes free')
    resize('1g')
    return _end(work)


def _end(work):
  check_done(work.case.start(work.inputs, work.folder).wait())
  return work.case.result(work.folder)


DISTURBANCES = {
  'SIGTERM': _terminate,
  'SIGINT': _interrupt,
  'memory': _end_memory,
  'vanished': _let_vanish,
  'full disk': _fill_disk,
}
MANY = {'sanitize': 8, 'artifacts gc': 4, 'run': 4, 'pirm': 3, 'sweep': 2}


@pytest.mark.slow
def test_the_sanitizer_is_disturbed(tmp_path, record_property):
  record_property('disturbances', _campaign(tmp_path, 'sanitize', 1))


@pytest.mark.slow
@pytest.mark.parametrize('name', MANY)
def test_many_disturbances(tmp_path, name, record_property):
  record_property('disturbances', _campaign(tmp_path, name, MANY[name]))


def _campaign(root, name, count):
  """Disturbs a command in each way, so many times."""
  case, inputs = CASES[name], root / 'inputs'
  case.prepare(inputs)
  before = fingerprints(inputs)
  start = time.monotonic()
  expected = case.undisturbed(inputs, root / 'whole')
  work = Work(case, inputs, root / 'disturbed', time.monotonic() - start, [])
  rng = random.Random(name)
  for disturb in DISTURBANCES.values():
    for _ in range(count):
      case.fresh(inputs, work.folder)
      # On a disk of its own it is ended there.
      found = disturb(work, rng) or _end(work)
      assert found == expected
      assert fingerprints(inputs) == before
  found = {kind: count for kind in DISTURBANCES}
  return found | {'killed, as it hung': len(work.hung)}
