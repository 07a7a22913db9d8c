"""Studies: many runs in one table, beside the paper's figures."""

import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pipeline import FIELDS, command

from babam_jax import errors, files
from babam_jax.config import rules
from babam_jax.evaluation import study_figures, study_table
from babam_jax.runs import study
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
  rules.check(config)
  assert 'python -m launch.' in module.__doc__
  with pytest.raises((ValueError, TypeError)):
    module.get_config('nothing')
  if name in ('figure3', 'figure7'):  # single runs
    return
  runs = study.plan(config, pathlib.Path('x'))
  rows = len(config.study.rows)
  assert len(runs) == rows * len(config.study.repeats)
  for _, _, paper in config.study.rows:
    assert paper is None or len(paper) == len(config.study.columns)
  for run in runs:
    assert not run.config.study.rows  # a run is no study itself


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


@pytest.mark.parametrize(
  'field,value,told',
  [
    ('rows', (('a', 'seed=1'),), 'config.study.rows'),
    ('rows', (('a', 'seed=1', (1.0,)),), 'config.study.rows'),
    ('rows', ((1, 'seed=1', None),), 'config.study.rows'),
    ('rows', ((None, None, None),), 'config.study.rows'),
    ('rows', (('..', 'seed=1', None),), 'config.study.rows'),
    ('rows', (('a', 'defense.epsilon=None', None),), 'defense.epsilon'),
    ('columns', (), 'config.study.columns'),
    ('columns', (('ASR',),), 'config.study.columns'),
    ('repeats', (), 'config.study.repeats'),
    ('repeats', (1,), 'config.study.repeats'),
    ('x', 'defense.epsilom', 'config.study.x'),
    ('x', 'defense.action', 'config.study.x'),
  ],
)
def test_a_malformed_study_is_refused(field, value, told):
  config = small_study()
  config.study.rows = (('a', '', None),)
  config.study[field] = value
  with pytest.raises(errors.UserError, match=told):
    study.plan(config, pathlib.Path('x'))


@pytest.mark.parametrize(
  'field', ['models', 'models.clean', 'nothing', 'pirm.holdout.tpr']
)
def test_a_column_that_is_no_number_is_told(field):
  metrics = {'models': {'clean': {}}, 'pirm': {'holdout': None}}
  with pytest.raises(KeyError):
    study_table.entry([metrics], field, None)


def test_figures_of_a_study():
  def row(label, rate, count):
    entries = [
      study_table.Entry([rate], None, 50.0),
      study_table.Entry([count], None, None),
    ]
    return study_table.Row(label, entries, 1)

  rows = [
    row('nothing', 0.9, 7),
    row('left out', 0.1, 8),
    row('noise, 0.1', 0.5, 9),
    row('noise, 0.01', 0.2, 9),
  ]
  headings = ['ASR', 'pictures']
  bars = study_figures.rates(headings, rows, [None] * 4, '')
  assert len(bars.axes) == 1  # a count has no percent axis
  widths = [bar.get_width() for bar in bars.axes[0].patches]
  assert widths == pytest.approx([90, 10, 50, 20])

  curves = study_figures.rates(
    headings, rows, [None, None, 0.1, 0.01], 'epsilon'
  )
  (ax,) = curves.axes
  assert ax.get_xlabel() == 'epsilon'
  styles = {line.get_label(): line.get_linestyle() for line in ax.lines}
  assert styles['nothing'] != styles['left out']  # two levels, told apart
  (line,) = [found for found in ax.containers if found.get_label() == 'noise']
  assert list(line[0].get_ydata()) == pytest.approx([20, 50])


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
    study_table.Row('a', [entry, study_table.Entry([3, 3], None, None)], 2),
    study_table.Row('b', [study_table.Entry([0.1], None, None)] * 2, 1),
  ]
  assert study_table.header(['ASR', 'n'], rows) == [
    '', 'ASR', 'paper', 'n', 'runs'
  ]  # fmt: skip
  assert study_table.lines(rows) == [
    ['a', '60.0 ± 14.1', '61.5', '3', '2'],
    ['b', '10.0', '-', '10.0', '1'],
  ]
  pooled = study_table.pooled([rows[0]])
  assert [str(row.entries[0]) for row in pooled] == [
    '60.0 ± 14.1', '50.0', '70.0'
  ]  # fmt: skip
  assert {row.runs for row in pooled} == {2}
  assert str(pooled[0].entries[1]) == '3'  # a count stays a count


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
  assert page.count('<h2>') == 2 and 'left out' in page

  # A run that is gone: the study is not shown, and the run is named.
  (folder / 'left_out' / 'seed_1' / 'metrics.json').unlink()
  done = report(tmp_path / 'runs')
  assert done.returncode == 2 and 'left_out/seed_1' in done.stderr
  assert 'Traceback' not in done.stderr
  page = (tmp_path / 'runs' / 'report.html').read_text()
  assert 'left out' not in page and 'left_out/seed_1' in page

  # A single run beside it, one that is not finished, and a stranger.
  shutil.copytree(folder / 'noise_0.1' / 'seed_0', tmp_path / 'runs' / 'one')
  shutil.copytree(folder / 'noise_0.1' / 'seed_1', tmp_path / 'runs' / 'two')
  (tmp_path / 'runs' / 'two' / 'metrics.json').unlink()
  (tmp_path / 'runs' / 'theirs').mkdir()
  (tmp_path / 'runs' / 'theirs' / 'config.json').write_text('[]')
  done = report(tmp_path / 'runs')
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  for name in ('two', 'theirs', 'left_out/seed_1'):
    assert name in done.stderr
  page = (tmp_path / 'runs' / 'report.html').read_text()
  assert 'Single runs' in page and '<td>one</td>' in page

  # The page of a working folder is its own.
  own = (folder / 'report.html').read_bytes()
  assert report(folder).returncode == 2
  assert (folder / 'report.html').read_bytes() == own


@pytest.mark.parametrize('there', [False, True])
def test_a_folder_without_runs(tmp_path, there):
  folder = tmp_path / 'nothing'
  if there:
    folder.mkdir()
  done = report(folder)
  assert done.returncode == 2 and '--runs' in done.stderr
  assert 'Traceback' not in done.stderr
