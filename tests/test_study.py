"""Studies: many runs in one table, beside the paper's figures."""

import ast
import dataclasses
import importlib
import json
import pathlib
import shutil

import numpy as np
import pytest
import starting
from conftest import REPOSITORY, SMALL_RUN
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pipeline import command

from babam_jax import errors, files
from babam_jax.config import rows, rules
from babam_jax.config.rows import Row
from babam_jax.evaluation import study_figures, study_table
from babam_jax.runs import collection, metrics_file, plan, results
from babam_jax.runs.tables import tabulate
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
  for name, value in SMALL_RUN.items():
    config.update_from_flattened_dict({name: value})
  config.study.title = 'Small'
  config.study.rows = (
    Row('left out', {'defense.treatment': 'drop'}, paper={'ASR %': 99.0}),
    Row('0.1', {'defense.noise.epsilon': 0.1}, panel='noise'),
  )
  config.study.columns = (
    ('ASR %', 'models.protected.asr'),
    ('poisons', 'detection.num_poisoned'),
  )
  config.study.repeats = ({'seed': 0}, {'seed': 1})
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
  runs = plan.of_study(config, pathlib.Path('x'))
  assert len(runs) == len(config.study.rows) * len(config.study.repeats)
  for run in runs:
    rules.check(run.config)
    assert not run.config.study.rows  # a run is no study itself


def test_a_run_differs_from_the_study_in_what_its_row_sets():
  runs = plan.of_study(small_study(), pathlib.Path('x'))
  assert [run.row.name for run in runs] == ['left out'] * 2 + ['noise, 0.1'] * 2
  assert [run.folder.as_posix() for run in runs] == [
    'x/left_out/seed_0',
    'x/left_out/seed_1',
    'x/noise_0.1/seed_0',
    'x/noise_0.1/seed_1',
  ]
  assert runs[1].config.seed == 1
  assert runs[1].config.defense.treatment == 'drop'
  assert runs[2].config.defense.noise.epsilon == 0.1
  assert runs[2].config.defense.treatment == 'noise'


@pytest.mark.parametrize(
  'row,told',
  [
    ({'recognizer.epoch': 3}, 'recognizer.epoch'),
    ({'recognizer.epochs': 'many'}, 'recognizer.epochs'),
    ({'recognizer': 3}, "'recognizer=3'"),
    ({'fr.epochs': 3}, 'it is now recognizer.epochs'),
    ({'recognizer.epochs': None}, 'recognizer.epochs'),
    ({'recognizer.epochs': 0}, 'config.recognizer.epochs: found 0'),
    ({'defense.treatment': 'shout'}, 'config.defense.treatment'),
  ],
)
def test_a_row_that_cannot_be_set_is_named(row, told):
  config = small_study()
  config.study.rows = (Row('a', row),)
  with pytest.raises(errors.UserError, match=told):
    plan.check(plan.of_study(config, pathlib.Path('x')))


def test_names_with_blanks_tuples_and_none_can_be_set():
  config = small_study()
  config.nobody = None
  sets = {
    'scenario.source': 'Ann  Lee, the 2nd=nd',
    'data.classes': ('Ann Lee', 'a=b'),
    'nobody': None,
  }
  config.study.rows = (Row('a', sets),)
  config.study.repeats = ({'scenario.target': "O' Hara"},)
  stored = json.loads(rules.as_json(config))
  for form in (config.study.rows, plan._with_tuples(stored['study']['rows'])):
    config.study.rows = form
    (run,) = plan.of_study(config, pathlib.Path('x'))
    assert run.name == 'a/scenario.target_O_Hara'
    assert run.config.scenario.source == sets['scenario.source']
    assert run.config.scenario.target == "O' Hara"
    assert run.config.data.classes == sets['data.classes']
    assert run.config.nobody is None


@pytest.mark.parametrize(
  'field,value,told',
  [
    ('rows', (), 'config.study.rows: found nothing'),
    ('rows', (('a', 'seed=1', None),), 'config.study.rows.*no record'),
    ('rows', ({'sets': {}},), 'config.study.rows.*label'),
    ('rows', ({'label': 'a', 'set': {}},), "config.study.rows.*'set'"),
    ('rows', ({'label': 'a', 'sets': 'seed=1'},), 'config.study.rows.*no dict'),
    ('rows', ({'label': 'a', 'sets': {1: 2}},), 'config.study.rows'),
    ('rows', ({'label': 1},), 'config.study.rows'),
    ('rows', ({'label': 'a', 'panel': None},), 'config.study.rows'),
    ('rows', (Row('..'),), 'config.study.rows'),
    ('rows', (Row('a', paper={'ASR': 1.0}),), "config.study.rows.*'ASR'"),
    (
      'rows',
      ({'label': 'a', 'paper': {'ASR %': '1'}},),
      "config.study.rows.*'ASR %'",
    ),
    (
      'rows',
      (Row('a', {'defense.noise.epsilon': None}),),
      'defense.noise.epsilon',
    ),
    ('columns', (), 'config.study.columns'),
    ('columns', (('ASR',),), 'config.study.columns'),
    ('columns', (('ASR', 'models.nope.asr'),), 'expected a model that is'),
    ('repeats', (), 'config.study.repeats'),
    ('repeats', (1,), 'config.study.repeats'),
    ('repeats', ('seed=1',), 'config.study.repeats'),
    ('x', 'defense.epsilom', 'config.study.x'),
    ('x', 'defense.treatment', 'config.study.x'),
  ],
)
def test_a_malformed_study_is_refused(field, value, told):
  config = small_study()
  config.study.rows = (Row('a'),)
  config.study[field] = value
  with pytest.raises(errors.UserError, match=told):
    plan.of_study(config, pathlib.Path('x'))


@pytest.mark.parametrize(
  'field', ['models', 'models.clean', 'nothing', 'pirm.holdout.tpr']
)
def test_a_column_that_is_no_number_is_told(field):
  metrics = {'models': {'clean': {}}, 'pirm': {'holdout': None}}
  with pytest.raises(KeyError):
    study_table.entry([metrics], field, None)


def test_figures_of_a_study():
  def line(label, rate, count, panel=''):
    entries = [
      study_table.Entry([rate], None, 50.0),
      study_table.Entry([count], None, None),
    ]
    return study_table.Line(label, entries, 1, panel)

  lines = [
    line('nothing', 0.9, 7),
    line('left out, all of it', 0.1, 8),
    line('0.1', 0.5, 9, 'noise'),
    line('0.01', 0.2, 9, 'noise'),
  ]
  headings = ['ASR', 'pictures']
  bars = study_figures.rates(headings, lines, [None] * 4, '')
  assert len(bars.axes) == 1  # a count has no percent axis
  widths = [bar.get_width() for bar in bars.axes[0].patches]
  assert widths == pytest.approx([90, 10, 50, 20])

  curves = study_figures.rates(
    headings, lines, [None, None, 0.1, 0.01], 'epsilon'
  )
  (ax,) = curves.axes
  assert ax.get_xlabel() == 'epsilon'
  styles = {line.get_label(): line.get_linestyle() for line in ax.lines}
  # Two levels, told apart.
  assert styles['nothing'] != styles['left out, all of it']
  (curve,) = [found for found in ax.containers if found.get_label() == 'noise']
  assert list(curve[0].get_ydata()) == pytest.approx([20, 50])


def test_two_rows_in_one_folder_are_refused():
  config = small_study()
  config.study.rows = (Row('a b'), Row('a_b'))
  with pytest.raises(errors.UserError, match='same name'):
    plan.of_study(config, pathlib.Path('x'))


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
  lines = [
    study_table.Line('a', [entry, study_table.Entry([3, 3], None, None)], 2),
    study_table.Line('b', [study_table.Entry([0.1], None, None)] * 2, 1, 'c'),
  ]
  assert study_table.header(['ASR', 'n'], lines) == [
    '', 'ASR', 'paper', 'n', 'runs'
  ]  # fmt: skip
  assert study_table.cells(lines) == [
    ['a', '60.0 ± 14.1', '61.5', '3', '2'],
    ['c, b', '10.0', '-', '10.0', '1'],
  ]
  pooled = study_table.pooled([lines[0]])
  assert [str(line.entries[0]) for line in pooled] == [
    '60.0 ± 14.1', '50.0', '70.0'
  ]  # fmt: skip
  assert {line.runs for line in pooled} == {2}
  assert str(pooled[0].entries[1]) == '3'  # a count stays a count


# --- Results, without their runs ---


def pretend(config, workdir, asr=0.5):
  """Leaves in a study's folders what its runs would."""
  runs = plan.of_study(config, workdir)
  rules.write_config(workdir, config)
  for run in runs:
    rules.write_config(run.folder, run.config)
    metrics = {
      'models': {'protected': {'asr': asr, 'source_test_pictures': 6}},
      'detection': {'num_poisoned': 6},
      'stages': {'poison': {'key': run.name, 'seconds': 2.5}},
    }
    files.write_json(run.folder / 'metrics.json', metrics)
    files.write_json(run.folder / 'environment.json', {'devices': 'theirs'})
  return runs


def test_a_table_is_made_wherever_the_runs_were(tmp_path):
  config = small_study()
  runs = pretend(config, tmp_path)
  results.publish_study(tmp_path, config, runs, 'the command')
  assert files.read_json(tmp_path / 'environment.json') == {
    'devices': 'theirs', 'command': 'the command'
  }  # fmt: skip
  found = files.read_json(tmp_path / 'metrics.json')
  assert found['seconds'] == 10
  labels = [row['label'] for row in found['rows']]
  assert labels == ['left out', 'noise, 0.1']
  text = (tmp_path / 'table.md').read_text()
  assert '| 50.0 ± 0.0 [25.4, 74.6] | 99 | 6 | 2 |' in text

  # From what is stored it is the same, whatever becomes of the config file.
  stored, again = plan.stored_study(tmp_path)
  assert rules.as_json(stored) == rules.as_json(config)
  assert tabulate(again, stored.study) == tabulate(runs, config.study)

  # Another column needs no other runs.
  config.study.columns = (('ASR %', 'models.protected.asr'),)
  results.publish_study(tmp_path, config, runs, 'the command')
  assert 'poisons' not in (tmp_path / 'table.md').read_text()


def test_a_run_of_another_config_is_in_no_table(tmp_path):
  config = small_study()
  runs = pretend(config, tmp_path)
  runs[0].config.recognizer.epochs = 5
  with pytest.raises(errors.UserError, match='seed_0 belongs to another'):
    tabulate(runs, config.study)


def test_a_half_filled_table_is_refused_by_name(tmp_path):
  config = small_study()
  runs = pretend(config, tmp_path)
  (runs[1].folder / 'metrics.json').unlink()
  with pytest.raises(errors.UserError, match='left_out/seed_1'):
    results.publish_study(tmp_path, config, runs, 'the command')
  assert not (tmp_path / 'table.md').exists()


@pytest.mark.parametrize(
  'damage',
  [
    {'rows': [['left out', 'defense.action=drop', None]]},
    {'repeats': ['seed=0']},
    {'rows': [{'label': 'a', 'sets': {'defense.no_more': 1}}]},
    {'columns': None},
  ],
)
def test_a_study_of_an_earlier_version_is_told(tmp_path, damage):
  pretend(small_study(), tmp_path / 'new')
  shutil.copytree(tmp_path / 'new', tmp_path / 'old')
  stored = files.read_json(tmp_path / 'old' / 'config.json')
  stored['study'] |= damage
  files.write_json(tmp_path / 'old' / 'config.json', stored)
  ((folder, why),) = collection.write_page(tmp_path, 'the command')
  assert folder == tmp_path / 'old' and 'earlier version' in why
  assert '\n' not in why and next(iter(damage)) in why + 'columns'
  assert 'left out' in (tmp_path / 'report.md').read_text()


@pytest.mark.parametrize(
  'rows_of,sweep,told',
  [
    ('()', '', 'no function sweep'),
    ("({'label': 'a'},)", 'def sweep(config): yield {"seed": 1}', 'a function'),
  ],
)
def test_a_file_plans_a_sweep_or_a_study(tmp_path, rows_of, sweep, told):
  path = tmp_path / 'c.py'
  path.write_text(sweep)
  config = small_study()
  config.study.rows = ast.literal_eval(rows_of)
  with pytest.raises(errors.UserError, match=told):
    plan.of_file(path, config, tmp_path)


def test_one_run_of_many_has_a_name():
  runs = plan.of_study(small_study(), pathlib.Path('x'))
  assert plan.named('noise_0.1/seed_1', runs) is runs[3]
  with pytest.raises(errors.UserError, match="--only: found 'noise'"):
    plan.named('noise', runs)


# --- The commands ---


def report(folder):
  return starting.run(starting.python('launch.report', f'--runs={folder}'))


def test_a_study_from_the_command_line(faces, tmp_path):
  config = small_study()
  changes = {
    'study.title': 'Small',
    'study.rows': tuple(map(dataclasses.asdict, config.study.rows)),
    'study.columns': config.study.columns,
    'study.repeats': config.study.repeats,
  }

  def study(faces):
    line = command(
      faces, tmp_path / 'runs' / 'small', tmp_path / 'a', **changes
    )
    return starting.run(line)

  done = study(tmp_path / 'nowhere')  # the first run tells
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert 'config.data.root' in done.stderr and 'run 1 of 4' in done.stderr
  assert not (tmp_path / 'runs').exists()

  done = study(faces)
  assert done.returncode == 0, done.stderr
  folder = tmp_path / 'runs' / 'small'
  table = (folder / 'table.md').read_text()
  assert '| left out |' in table and '| 99 |' in table
  found = json.loads((folder / 'metrics.json').read_text())
  for row in found['rows']:
    values = [
      files.read_json(path)['models']['protected']['asr']
      for path in sorted(
        (folder / rows.slug(row['label'])).glob('*/metrics.json')
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


def test_a_run_without_a_detector_has_counted_nothing(tmp_path):
  """Its rates and counts are None, and that is no damage."""
  nothing = {'tpr': None, 'fpr': None, 'num_poisoned': None, 'num_clean': None}
  found = {'models': {}, 'stages': {}, 'detection': nothing}
  files.write_json(tmp_path / 'metrics.json', found)
  assert metrics_file.read(tmp_path) == found
  nothing['num_poisoned'] = -1
  files.write_json(tmp_path / 'metrics.json', found)
  with pytest.raises(errors.UserError, match='num_poisoned'):
    metrics_file.read(tmp_path)
