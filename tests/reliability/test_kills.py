"""SIGKILL at any moment: the same command ends the work, with the same result.

Half of the kills come at a random time, half at a random change to the file
system. The long form is a thousand of them.
"""

import random
import signal
import time

import pytest
from commands import CASES, check_done, fingerprints
from disturbing import Count, Kill

_KILLS = {
  'sanitize': (4, 400),
  'artifacts gc': (10, 250),
  'run': (0, 250),
  'pirm': (0, 60),
  'sweep': (0, 40),
}


def _each(place):
  return [
    pytest.param(name, counts[place], id=name)
    for name, counts in _KILLS.items()
    if counts[place]
  ]


@pytest.mark.slow
@pytest.mark.parametrize('name,kills', _each(0))
def test_kills(tmp_path, name, kills, record_property):
  record_property('kills', _campaign(tmp_path, CASES[name], kills))


@pytest.mark.slow
@pytest.mark.parametrize('name,kills', _each(1))
def test_many_kills(tmp_path, name, kills, record_property):
  record_property('kills', _campaign(tmp_path, CASES[name], kills))


def _campaign(root, case, kills):
  """Kills the command again and again, until that many kills have met it.

  Returns:
    How many kills have met it; how often it was begun, and then ended.
  """
  inputs, folder = root / 'inputs', root / 'killed'
  case.prepare(inputs)
  before = fingerprints(inputs)
  start = time.monotonic()
  expected = case.undisturbed(inputs, root / 'whole')
  seconds = time.monotonic() - start
  rng = random.Random(case.module)
  changes = _count_changes(case, inputs, root / 'counted')
  done = begun = 0
  while done < kills:
    case.fresh(inputs, folder)
    begun += 1
    ended = _try_to_kill(case, inputs, folder, rng, seconds, changes)
    while ended.returncode == -signal.SIGKILL:
      done += 1
      ended = (
        _try_to_kill(case, inputs, folder, rng, seconds, changes)
        if done < kills
        else case.start(inputs, folder).wait()
      )
    check_done(ended)
    assert case.result(folder) == expected
    # A kill may come when all is done: whoever gives it again, finds it so.
    check_done(case.start(inputs, folder).wait())
    assert case.result(folder) == expected
  assert fingerprints(inputs) == before
  return {'kills': done, 'begun': begun}


def _count_changes(case, inputs, folder):
  """How many changes an undisturbed run makes to the file system."""
  case.fresh(inputs, folder)
  total = folder.with_suffix('.changes')
  check_done(case.start(inputs, folder, before=Count(folder, total)).wait())
  return total.stat().st_size


def _try_to_kill(case, inputs, folder, rng, seconds, changes):
  """Starts the command and kills it, unless it is faster."""
  if rng.random() < 0.5:
    kill = Kill(folder, rng.randint(1, changes))
    return case.start(inputs, folder, before=kill).wait()
  running = case.start(inputs, folder)
  if running.is_running(rng.random() * seconds):
    running.send(signal.SIGKILL)
  return running.wait()
