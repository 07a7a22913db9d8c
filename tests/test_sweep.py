"""Sweeps: planned, run here and through a real SLURM, disturbed, collected."""

import contextlib
import csv
import json
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time

import filelock
import pytest
import starting
from conftest import REPOSITORY, SMALL_RUN, write_faces
from ml_collections import ConfigDict

from babam_jax import errors, files
from babam_jax.config.rows import Row
from babam_jax.runs import job, plan, results, sharing, state
from babam_jax.store import lab

SWEEPS = sorted(
  path
  for path in (REPOSITORY / 'configs' / 'sweeps').glob('*.py')
  if path.stem not in ('__init__', 'base')
)
EPSILONS = ('0.01', '0.05', '0.5')


def planned(path, workdir, *arguments):
  module = runpy.run_path(str(path))
  config = module['get_config'](*arguments)
  return plan.of_sweep(config, module['sweep'], workdir)


# --- Plans ---


@pytest.mark.parametrize('argument', [[], ['lfw_multiclass'], ['lfw_binary']])
@pytest.mark.parametrize('path', SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_can_be_planned(path, argument, tmp_path):
  runs = planned(path, tmp_path, *argument)
  plan.check(runs)
  assert len(runs) > 3
  waves = sharing.waves(runs)
  assert sorted(one.name for wave in waves for one in wave) == sorted(
    one.name for one in runs
  )
  # In the first wave nobody waits for a stage that another is computing.
  first = {one.name for one in waves[0]}
  for stage in sharing.stages(runs):
    if len(stage.runs) > 1:
      assert len(first & set(stage.runs)) == 1


def test_what_the_runs_share(tmp_path):
  path = REPOSITORY / 'configs' / 'sweeps' / 'poison_fraction.py'
  stages = sharing.stages(planned(path, tmp_path))
  counts = {}
  for stage in stages:
    counts.setdefault(stage.name, []).append(len(stage.runs))
  assert counts == {
    'poison': [5] * 3,
    'model/clean': [5] * 3,
    'model/malicious': [1] * 15,
    'model/protected': [1] * 15,
  }


def test_estimates_come_from_what_stages_took(tmp_path):
  path = REPOSITORY / 'configs' / 'sweeps' / 'epsilon.py'
  stages = sharing.stages(planned(path, tmp_path))
  assert sharing.estimate(stages, tmp_path / 'none') == (None, None)
  seconds = {
    'poison': 40, 'model/clean': 3, 'model/malicious': 4, 'model/protected': 5
  }  # fmt: skip
  for name, took in seconds.items():
    key = name.replace('/', '-')
    record = {
      'stage': name, 'key': key, 'inputs': [], 'seconds': took, 'files': {}
    }  # fmt: skip
    folder = tmp_path / 'store' / f'x-{key}'
    files.write_json(folder / 'stage.json', record)
  # Poison and two models once, seven protected models; or all seven times.
  expected = (40 + 3 + 4 + 7 * 5, 7 * (40 + 3 + 4 + 5))
  assert sharing.estimate(stages, tmp_path / 'store') == expected


@pytest.mark.parametrize(
  'overrides,told',
  [
    ([], 'found nothing'),
    ([{'defense.noise.epsilon': 0.1}] * 2, 'defense.noise.epsilon=0.1 twice'),
    ([{'defense.epsylon': 0.1}], 'epsylon'),
    ([{'defense.noise.epsilon': 'much'}], 'defense.noise.epsilon=much'),
    ([{'defense.noise.epsilon': -1.0}], 'config.defense.noise.epsilon'),
    (
      [{'defense.pirm.checkpoint': 'nowhere.npz'}],
      'config.defense.pirm.checkpoint',
    ),
    ([{'recognizer.pretrained': 'full'}], 'config.recognizer'),
    (['defense.epsilon=0.1'], 'expected dicts'),
    (None, 'expected it to yield'),
  ],
)
def test_bad_sweeps_are_told(overrides, told, tmp_path):
  module = runpy.run_path(str(SWEEPS[0]))
  with pytest.raises(errors.UserError, match=told):
    config = module['get_config']()
    plan.check(plan.of_sweep(config, lambda config: overrides, tmp_path))


# --- One job ---


def python_that(tmp_path, does):
  """In place of Python: a shell script."""
  path = tmp_path / 'python'
  path.write_text(f'#!/bin/sh\n{does}\n')
  path.chmod(0o755)
  return str(path)


def events(folder):
  lines = (folder / job.ATTEMPTS).read_text().splitlines()
  return [json.loads(line) for line in lines]


def job_of(folder):
  return job.Job(str(folder), 'run', [], str(folder / 'metrics.json'))


@pytest.mark.parametrize(
  'does,done,starts,expected',
  [
    ('echo fine; echo {} > $0.folder/metrics.json', True, 1, state.DONE),
    ('echo "out of order"; exit 1', False, 2, state.FAILED),
    ('echo "error: no such file"; exit 2', False, 1, state.FAILED),
    # Killed at first, done when it is started again.
    (
      'test -e $0.second && echo {} > $0.folder/metrics.json && exit 0; '
      'touch $0.second; kill -9 $$',
      True,
      2,
      state.DONE,
    ),
  ],
)
def test_a_job_is_tried_twice(
  does, done, starts, expected, tmp_path, monkeypatch
):
  monkeypatch.setattr(job.sys, 'executable', python_that(tmp_path, does))
  folder = tmp_path / 'python.folder'
  assert job_of(folder)() == done
  assert [event['event'] for event in events(folder)] == [
    'start',
    'end',
  ] * starts
  one = plan.Run('one', folder, ConfigDict(), {}, Row('one'))
  (found,) = state.states(tmp_path, [one])
  assert (found.state, found.attempts) == (expected, starts)
  if not done:
    assert 'o' in found.last_lines[-1]
    assert events(folder)[-1]['last_lines'] == found.last_lines
  assert job_of(folder)() == done  # not run again if done
  assert len(events(folder)) == 2 * starts * (1 if done else 2)


def test_running_waiting_and_stopped_jobs(tmp_path, monkeypatch):
  monkeypatch.setattr(job, '_LOCK_SECONDS', 0.1)
  one = plan.Run('one', tmp_path / 'one', ConfigDict(), {}, Row('one'))

  def found():
    return state.states(tmp_path, [one])[0].state

  assert found() == state.WAITING
  one.folder.mkdir()
  with filelock.FileLock(one.folder / job.LOCK):
    assert found() == state.RUNNING
    assert job_of(one.folder)() is False
  (one.folder / job.ATTEMPTS).write_text(
    json.dumps({'event': 'start', 'host': 'a'}) + '\n{"event": "e'
  )
  assert found() == state.STOPPED
  # The experiment outlives the launcher that was killed.
  with filelock.FileLock(one.folder / lab.RUN_LOCK):
    assert found() == state.RUNNING


def test_the_page_tells_what_is_missing(tmp_path):
  path = REPOSITORY / 'configs' / 'sweeps' / 'epsilon.py'
  runs = planned(path, tmp_path)
  states = state.states(tmp_path, runs)
  results.publish_sweep(tmp_path, 'Title', runs, states, 'the command')
  lines = list(csv.DictReader((tmp_path / 'results.csv').open()))
  assert [line['state'] for line in lines] == ['waiting'] * 7
  page = (tmp_path / 'report.html').read_text()
  assert 'Not shown' in page and 'defense.noise.epsilon=0.005' in page


# --- The command ---


SWEEP = """
from configs.sweeps.epsilon import get_config

def sweep(config):
  for epsilon in ({epsilons}):
    yield {{'defense.noise.epsilon': epsilon}}
"""


@pytest.fixture(scope='module')
def natural(tmp_path_factory):
  """Natural pictures for a PIRM; beside them lies the sweep's config."""
  root = tmp_path_factory.mktemp('natural')
  text = SWEEP.format(epsilons=', '.join(EPSILONS))
  (root / 'sweep.py').write_text(text)
  return write_faces(root / 'n', 6, 20, 64)


def sweep_command(workdir, store, natural, *arguments, config=None):
  """A sweep of three epsilons on ORL, small; the PIRM is trained."""
  fields = {
    'data.size': 64,
    'scenario.poison_images': 3,
    'attack.iterations': 5,
    'attack.passes': 3,
    'attack.trigger_size': 16,
    'recognizer.width': 64,
    'recognizer.epochs': 40,
    'recognizer.checkpoint_every': 2,
    'evaluation.positions': 3,
    'defense.pirm.checkpoint': 'train',
    'defense.pirm.threshold': 0.0,  # all are flagged
    'pirm.root': natural,
    'pirm.num_poison': 20,
    'pirm.num_clean': 40,
    'pirm.poison.iterations': 3,
    'pirm.poison.trigger_size': 16,
    'pirm.epochs': 2,
  }
  return [
    sys.executable,
    '-m',
    'launch.sweep',
    f'--config={config or natural.parent / "sweep.py"}',
    *(f'--config.{name}={value}' for name, value in fields.items()),
    f'--workdir={workdir}',
    f'--artifacts={store}',
    *arguments,
  ]


def tell(command, env=None, status=0):
  done = starting.run(command, environment=env)
  assert done.returncode == status, done.stdout + done.stderr
  assert 'Traceback' not in done.stderr
  return done.stdout + done.stderr


def manage(workdir, action, *arguments, **options):
  line = [sys.executable, '-m', 'launch.sweep', f'--workdir={workdir}', action]
  return tell([*line, *arguments], **options)


@pytest.fixture(scope='module')
def undisturbed(natural, tmp_path_factory):
  """The sweep on this machine."""
  root = tmp_path_factory.mktemp('local')
  tell(sweep_command(root / 'sweep', root / 'store', natural))
  return root


def test_a_sweep_on_this_machine(undisturbed):
  workdir = undisturbed / 'sweep'
  lines = list(csv.DictReader((workdir / 'results.csv').open()))
  assert [line['defense.noise.epsilon'] for line in lines] == list(EPSILONS)
  assert all(line['state'] == 'done' for line in lines)
  for line in lines:
    metrics = files.read_json(workdir / line['run'] / 'metrics.json')
    asr = metrics['models']['protected']['asr']
    assert float(line['models.protected.asr']) == asr
  page = (workdir / 'report.html').read_text()
  assert 'Not shown' not in page and 'data:image/png;base64' in page
  shown = manage(workdir, 'status')
  assert '3 done' in shown
  manage(workdir, 'resume')  # nothing is left to do
  assert len(events(workdir / lines[0]['run'])) == 2


def test_the_plan_says_what_the_store_does(undisturbed):
  workdir = undisturbed / 'sweep'
  config = files.read_json(
    workdir / 'defense.noise.epsilon=0.05' / 'config.json'
  )
  runs = plan.of_sweep(
    ConfigDict(config),
    lambda config: ({'defense.noise.epsilon': float(e)} for e in EPSILONS),
    workdir,
  )
  checked = 0
  for stage in sharing.stages(runs):
    keys = {
      files.read_json(workdir / name / 'metrics.json')['stages'][stage.name][
        'key'
      ]
      for name in stage.runs
    }
    assert len(keys) == 1, stage.name
    checked += len(stage.runs)
  # The poison, the PIRM, its calibration, three models.
  assert checked == len(EPSILONS) * 6


def test_mistakes_are_told_in_one_line(undisturbed, natural, tmp_path):
  workdir = undisturbed / 'sweep'
  other = sweep_command(workdir, tmp_path, natural, '--config.seed=1')
  assert 'belongs to another sweep' in tell(other, status=2)
  line = [sys.executable, '-m', 'launch.sweep']
  assert '--workdir: is missing' in tell(line, status=2)
  here = [*line, f'--workdir={tmp_path}']
  assert '--config: is missing' in tell(here, status=2)
  assert 'no sweep.json' in tell([*here, 'status'], status=2)
  assert "found 'dance'" in tell([*here, 'dance'], status=2)
  plain = [*here, '--config=configs/orl_multiclass.py']
  assert 'no function sweep' in tell(plain, status=2)
  wrong = [*here, '--config=configs/sweeps/epsilon.py:orl']
  assert "found 'orl'" in tell(wrong, status=2)
  option = [*here, '--config=configs/sweeps/epsilon.py', '--slurm.nope=3']
  assert "'nope'" in tell(option, status=2)
  (tmp_path / 'torn').mkdir()
  record = {
    'config': ['--config=configs/sweeps/epsilon.py'],
    'artifacts': 'x',
    'executor': 'local',
    'slurm': {},
    'jobs': {},
  }
  for damaged in (
    '{',
    json.dumps(record | {'slurm': {'partitjon': 'x'}}),
    json.dumps(record | {'slurm': {'cpus_per_task': 'x'}}),
    json.dumps(record | {'config': [3]}),
    json.dumps(record | {'jobs': 3}),
  ):
    (tmp_path / 'torn' / 'sweep.json').write_text(damaged)
    torn = [*line, f'--workdir={tmp_path / "torn"}', 'status']
    assert 'sweep.json is damaged' in tell(torn, status=2)
  no_slurm = sweep_command(tmp_path / 's', tmp_path, natural)
  told = tell(
    [*no_slurm, '--executor=slurm'],
    env=os.environ | {'PATH': '/nowhere'},
    status=2,
  )
  assert 'sbatch' in told


# --- SLURM ---


def wait_for(pattern, root, seconds=240):
  deadline = time.monotonic() + seconds
  while time.monotonic() < deadline:
    found = sorted(root.glob(pattern))
    if found:
      return found[0]
    time.sleep(0.02)
  raise TimeoutError(pattern)


def processes_of(folder):
  """The processes of a run that SLURM has started, not those that wait."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      line = (path / 'cmdline').read_bytes()
      if b'babam_jax.cli' in line and f'--workdir={folder}'.encode() in line:
        found.append(int(path.name))
  return found


def in_training(workdir, skipped):
  """A run of the sweep that is training its own model now."""
  deadline = time.monotonic() + 240
  while time.monotonic() < deadline:
    for log in workdir.glob('defense*/training/protected.jsonl'):
      folder = log.parents[1]
      unfinished = not (folder / 'metrics.json').exists()
      if folder != skipped and unfinished and processes_of(folder):
        return folder
    time.sleep(0.01)
  raise TimeoutError('no run trains')


@pytest.mark.slow
def test_a_disturbed_sweep_on_slurm(slurm, undisturbed, natural, tmp_path):
  """One job is requeued, another's process killed: the same results."""
  workdir, store = tmp_path / 'sweep', tmp_path / 'store'
  options = ['--executor=slurm', '--slurm.time=20', '--slurm.partition=main']
  tell(sweep_command(workdir, store, natural, *options), env=slurm)
  ids = json.loads(
    '{'
    + ','.join(
      line.strip('{}')
      for line in (workdir / 'submissions.jsonl').read_text().splitlines()
    )
    + '}'
  )
  assert len(ids) == len(EPSILONS)

  # The first wave is one job: what the others share is made by it alone.
  wait_for('model-malicious-*.scratch/checkpoints/*', store)
  (first,) = [folder for folder in workdir.glob('defense*')]
  subprocess.run(
    ['scontrol', 'requeue', ids[first.name]], env=slurm, check=True
  )

  killed = in_training(workdir, first)
  for process in processes_of(killed):
    os.kill(process, signal.SIGKILL)

  shown = manage(workdir, 'status', '--watch', env=slurm)
  assert '3 done' in shown
  manage(workdir, 'report', env=slurm)
  expected = (undisturbed / 'sweep' / 'results.csv').read_text()
  assert (workdir / 'results.csv').read_text() == expected
  # The requeued job has a start without an end, the killed one a second try.
  kinds = [event['event'] for event in events(first)]
  assert kinds.count('start') >= 2
  statuses = [event.get('status') for event in events(killed)]
  assert -signal.SIGKILL in statuses and statuses[-1] == 0
  # Made once, whoever asked.
  logs = ''.join((workdir / name / job.LOG).read_text() for name in sorted(ids))
  for stage in ('poison', 'pirm', 'pirm_data', 'model/clean'):
    assert logs.count(f'\n{stage}: computing') == 1, stage
  assert len(list(store.glob('model-protected-*'))) == 2 * len(ids)  # and locks


@pytest.mark.slow
def test_canceled_jobs_can_be_resumed(slurm, undisturbed, natural, tmp_path):
  """And jobs may have two processes each."""
  config = tmp_path / 'two.py'
  config.write_text(SWEEP.format(epsilons='0.01, 0.03'))
  workdir = tmp_path / 'sweep'
  command = sweep_command(
    workdir,
    undisturbed / 'store',  # all is there for the first, little is missing
    natural,
    '--executor=slurm',
    '--slurm.time=20',
    '--slurm.ntasks_per_node=2',
    config=config,
  )
  tell(command, env=slurm)
  assert 'taken out of the queue' in manage(workdir, 'cancel', env=slurm)
  told = manage(workdir, 'status', '--watch', env=slurm)
  assert '2 done' not in told
  manage(workdir, 'resume', env=slurm)
  assert '2 done' in manage(workdir, 'status', '--watch', env=slurm)
  # The first process says it all; there is one working folder for both.
  lines = (workdir / 'defense.noise.epsilon=0.03' / job.LOG).read_text()
  assert lines.count('\ntreatment/noise: computing') == 1


STUDY = """
from babam_jax.config.rows import Row
from configs import common

def get_config():
  config = common.get_config()
  config.update_from_flattened_dict({fields!r})
  config.study.title = 'Small'
  config.study.rows = (
    Row('left out', {{'defense.treatment': 'drop'}}, paper={{'ASR %': 99.0}}),
    Row(
      '0.1',
      {{'defense.noise.epsilon': 0.1, 'models': ('protected',)}},
      panel='e',
    ),
  )
  config.study.repeats = ({{'scenario.target': 'Ann  Lee'}},)
  config.study.columns = (('ASR %', 'models.protected.asr'),)
  config.study.x = 'defense.noise.epsilon'
  return config
"""
TABLE = ('config.json', 'metrics.json', 'table.md', 'report.html')


@pytest.mark.slow
def test_a_study_on_slurm_makes_the_same_table(slurm, faces, tmp_path):
  people = shutil.copytree(faces, tmp_path / 'people')
  (people / 'person0').rename(people / 'Ann  Lee')
  path = tmp_path / 'study.py'
  fields = SMALL_RUN | {'data.root': str(people)}
  path.write_text(STUDY.format(fields=fields))

  def start(module, workdir, *arguments, **options):
    line = [sys.executable, '-m', module, f'--config={path}', *arguments]
    folders = [f'--workdir={workdir}', f'--artifacts={tmp_path / "store"}']
    return tell([*line, *folders], **options)

  workdir = tmp_path / 'slurm'
  told = start('launch.sweep', workdir, '--dry_run')
  assert 'e_0.1/scenario.target_Ann_Lee' in told and not workdir.exists()
  told = start('launch.sweep', workdir, '--executor=slurm', env=slurm)
  assert '2 jobs submitted' in told
  told = manage(workdir, 'report', env=slurm, status=2)
  assert 'e_0.1/scenario.target_Ann_Lee' in told  # it is missing yet
  assert '2 done' in manage(workdir, 'status', '--watch', env=slurm)
  assert '0 jobs submitted' in manage(workdir, 'resume', env=slurm)
  manage(workdir, 'report')

  # Here it costs no computing, and all bytes are the same.
  start('launch.main', tmp_path / 'here')
  for name in TABLE:
    there = (workdir / name).read_bytes()
    assert (tmp_path / 'here' / name).read_bytes() == there, name
  assert '| left out | ' in (workdir / 'table.md').read_text()
  told = start('launch.sweep', workdir, '--config.seed=1', status=2)
  assert 'belongs to another sweep or study' in told


def test_refused_options_are_told(slurm, natural, tmp_path):
  command = sweep_command(
    tmp_path / 's', tmp_path, natural, '--executor=slurm', '--slurm.partition=x'
  )
  assert '--slurm: sbatch refused' in tell(command, env=slurm, status=2)


@pytest.mark.slow
def test_canceling_a_sweep_on_this_machine(undisturbed, natural, tmp_path):
  workdir = tmp_path / 'sweep'
  command = sweep_command(workdir, undisturbed / 'store', natural)
  running = threading.Thread(target=lambda: tell(command))
  running.start()
  wait_for('defense*/attempts.jsonl', workdir)
  manage(workdir, 'cancel')
  running.join()
  assert 'waiting' in manage(workdir, 'status')
