"""Studies: many runs in one table, beside the paper's figures."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pipeline import FIELDS, command

from babam_jax import errors, files
from babam_jax.evaluation import study_table
from babam_jax.experiment import config_check, study
from configs import common

PAPER = sorted(
  path.stem for path in (REPOSITORY / 'configs' / 'paper').glob('[a-z]*.py')
)
ARGUMENTS = {
  'table2_imagenet': ['', 'small'],
  'table3': ['', 'embedded'],
  'figure8': ['', 'binary'],
}


def small_study():
  config = common.get_config()
  for name, value in FIELDS.items():
    config.update_from_flattened_dict({name: value})
  config.study.title = 'Small'
  config.study.rows = (
    ('left out', 'defense.action=drop', (99.0, None)),
    ('noise, 0.1', 'defense.epsilon=0.1', None),
  )
  config.study.columns = (
    ('ASR %', 'models.protected.asr'),
    ('poisons', 'pirm.training_set.num_poisoned'),
  )
  config.study.repeats = ('seed=0', 'seed=1')
  return config


@pytest.mark.parametrize(
  'name,argument',
  [(name, a) for name in PAPER for a in ARGUMENTS.get(name, [''])],
)
def test_every_config_of_the_paper_can_be_planned(name, argument):
  module = importlib.import_module(f'configs.paper.{name}')
  config = module.get_config(*[argument][: bool(argument)])
  config_check.check(config)
  runs = study.plan(config, pathlib.Path('x'))
  rows = len(config.study.rows)
  assert len(runs) == rows * len(config.study.repeats)
  for _, _, paper in config.study.rows:
    assert paper is None or len(paper) == len(config.study.columns)
  for run in runs:
    assert not run.config.study.rows  # a run is no study itself
  assert 'python -m launch.' in module.__doc__


def test_a_run_differs_from_the_study_in_what_its_row_sets():
  runs = study.plan(small_study(), pathlib.Path('x'))
  assert [run.folder.as_posix() for run in runs] == [
    'x/left_out/seed_0',
    'x/left_out/seed_1',
    'x/noise_0.1/seed_0',
    'x/noise_0.1/seed_1',
  ]
  assert runs[1].config.seed == 1
  assert runs[1].config.defense.action == 'drop'
  assert runs[2].config.defense.epsilon == 0.1
  assert runs[2].config.defense.action == 'perturb'


@pytest.mark.parametrize(
  'row,told',
  [
    ('fr.epoch=3', 'fr.epoch'),
    ('fr.epochs=many', 'fr.epochs'),
    ('fr.epochs', 'fr.epochs'),
    ('fr.epochs=0', 'config.fr.epochs: found 0'),
    ('defense.action=shout', 'config.defense.action'),
  ],
)
def test_a_row_that_cannot_be_set_is_named(row, told):
  config = small_study()
  config.study.rows = (('a', row, None),)
  with pytest.raises(errors.UserError, match=told):
    study.plan(config, pathlib.Path('x'))


def test_two_rows_in_one_folder_are_refused():
  config = small_study()
  config.study.rows = (('a b', '', None), ('a_b', '', None))
  with pytest.raises(errors.UserError, match='same name'):
    study.plan(config, pathlib.Path('x'))


@settings(max_examples=30, deadline=None)
@given(
  st.lists(
    st.tuples(st.integers(0, 35), st.integers(36, 80)), min_size=1, max_size=5
  )
)
def test_entries_against_plain_arithmetic(runs):
  metrics = [
    {'models': {'m': {'asr': hits / n, 'source_test_pictures': n}}}
    for hits, n in runs
  ]
  found = study_table.entry(metrics, 'models.m.asr', 50.0)
  rates = [hits / n for hits, n in runs]
  assert found.mean == pytest.approx(np.mean(rates))
  expected = np.std(rates, ddof=1) if len(rates) > 1 else 0
  assert found.deviation == pytest.approx(expected)
  low, high = found.interval
  pooled = sum(hits for hits, _ in runs) / sum(n for _, n in runs)
  assert 0 <= low <= pooled + 1e-12 and pooled - 1e-12 <= high <= 1
  # More trials, a narrower interval.
  again = study_table.entry(metrics * 4, 'models.m.asr', None)
  assert again.interval[1] - again.interval[0] < high - low


def test_the_papers_figures_stand_beside_ours():
  entry = study_table.Entry([0.5, 0.7], None, 61.5)
  rows = [
    study_table.Row('a', [entry, study_table.Entry([3, 3], None, None)]),
    study_table.Row('b', [study_table.Entry([0.1], None, None)] * 2),
  ]
  assert study_table.header(['ASR', 'n'], rows) == [
    '', 'ASR', 'paper', 'n', 'runs'
  ]  # fmt: skip
  assert study_table.lines(rows) == [
    ['a', '60.0 ± 14.1', '61.5', '3', '2'],
    ['b', '10.0', '-', '10.0', '1'],
  ]
  pooled = study_table.pooled([rows[0]])
  assert [str(row.entries[0]) for row in pooled] == ['60.0', '50.0', '70.0']


def report(folder):
  return subprocess.run(
    [sys.executable, '-m', 'launch.report', f'--runs={folder}'],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )


def test_a_study_from_the_command_line(faces, tmp_path):
  config = small_study()
  changes = {
    'study.title': 'Small',
    'study.rows': repr(config.study.rows),
    'study.columns': repr(config.study.columns),
    'study.repeats': repr(config.study.repeats),
  }
  line = command(faces, tmp_path / 'runs' / 'small', tmp_path / 'a', **changes)
  done = subprocess.run(
    line, cwd=REPOSITORY, capture_output=True, text=True, env=os.environ
  )
  assert done.returncode == 0, done.stderr
  folder = tmp_path / 'runs' / 'small'
  table = (folder / 'table.md').read_text()
  assert '| left out |' in table and '| 99 |' in table
  found = json.loads((folder / 'metrics.json').read_text())
  for row in found['rows']:
    values = [
      files.read_json(path)['models']['protected']['asr']
      for path in sorted(
        (folder / study._slug(row['label'])).glob('*/metrics.json')
      )
    ]
    assert row['columns']['ASR %']['values'] == values and len(values) == 2
    assert row['columns']['ASR %']['mean'] == pytest.approx(np.mean(values))
  assert '<img' in (folder / 'report.html').read_text()

  # Two rows that differ in the defense alone share the poison.
  records = [
    files.read_json(folder / row / 'seed_0' / 'metrics.json')['stages']
    for row in ('left_out', 'noise_0.1')
  ]
  assert records[1]['poison']['reused']
  assert records[0]['poison']['key'] == records[1]['poison']['key']

  done = report(tmp_path / 'runs')
  assert done.returncode == 0, done.stderr
  page = (tmp_path / 'runs' / 'report.html').read_text()
  assert page.count('<h2>') == 1 and 'left out' in page

  # A run that is gone: the study is not shown, and the run is named.
  (folder / 'left_out' / 'seed_1' / 'metrics.json').unlink()
  done = report(tmp_path / 'runs')
  assert done.returncode == 2 and 'left_out/seed_1' in done.stderr
  assert 'Traceback' not in done.stderr
  page = (tmp_path / 'runs' / 'report.html').read_text()
  assert 'left out' not in page


@pytest.mark.parametrize('there', [False, True])
def test_a_folder_without_runs(tmp_path, there):
  folder = tmp_path / 'nothing'
  if there:
    folder.mkdir()
  done = report(folder)
  assert done.returncode == 2 and '--runs' in done.stderr
  assert 'Traceback' not in done.stderr
