"""Many processes on one output folder, killed at random: one at a time works,
what it has done is not done again, and all of it is whole.

Many on one store: `tests/test_store_keeping.py`.
"""

import collections
import random
import signal

import pytest
from commands import CASES, check_done, fingerprints

_REFUSED = ('another run is filling', 'at work in')


def test_some_on_one_output_folder(tmp_path, record_property):
  record_property('crowd', _crowd(tmp_path, 'sanitize', processes=6, kills=4))


@pytest.mark.slow
@pytest.mark.parametrize(
  'name,processes', [('sanitize', 50), ('run', 12), ('artifacts gc', 50)]
)
def test_many_on_one_output_folder(tmp_path, name, processes, record_property):
  found = _crowd(tmp_path, name, processes, kills=100)
  record_property('crowd', found)


def _crowd(root, name, processes, kills):
  """Starts a command many times at once, and kills some of them."""
  case, inputs, folder = CASES[name], root / 'inputs', root / 'here'
  case.prepare(inputs)
  before = fingerprints(inputs)
  expected = case.undisturbed(inputs, root / 'whole')
  case.fresh(inputs, folder)
  rng = random.Random(name)
  crowd = [case.start(inputs, folder) for _ in range(processes)]
  counts = collections.Counter()
  for _ in range(kills):
    running = crowd.pop(rng.randrange(len(crowd)))
    if running.is_running(rng.random() * 0.2):
      running.send(signal.SIGKILL)
    counts[_outcome(running.wait())] += 1
    crowd.append(case.start(inputs, folder))
  for running in crowd:
    counts[_outcome(running.wait())] += 1
  check_done(case.start(inputs, folder).wait())
  assert case.result(folder) == expected
  assert fingerprints(inputs) == before
  assert counts['done']
  return {'processes': processes, **counts}


def _outcome(ended):
  if ended.returncode == -signal.SIGKILL:
    return 'killed'
  assert 'Traceback' not in ended.stderr, ended.stderr
  if ended.returncode == 0:
    return 'done'
  lines = [line for line in ended.stderr.splitlines() if 'error: ' in line]
  assert ended.returncode == 2 and len(lines) == 1, ended.stderr
  assert any(told in lines[0] for told in _REFUSED), lines
  return 'refused'
