"""A study: one experiment in variations, collected in one table.

The paper's tables and figures are studies (`configs/paper/`). Each run of a
study is an experiment of its own, in a folder of its own, and shares with the
others, through the artifact store, whatever they have in common.
"""

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from babam_jax import errors, files
from babam_jax.evaluation import (
  figures,
  report,
  study_figures,
  study_table,
  table,
)
from babam_jax.evaluation.study_table import Row
from babam_jax.config import rules
from babam_jax.experiment import environment, pipeline
from babam_jax.config.overrides import override
from babam_jax.progress import say


class Run(NamedTuple):
  """One run of a study.

  Attributes:
    row: the label of the row it belongs to.
    config: of this run alone.
    folder: where its results go.
  """

  row: str
  config: ConfigDict
  folder: pathlib.Path


class Study(NamedTuple):
  """A study whose runs are all done.

  Attributes:
    title: what it shows.
    note: what a reader must know to compare it with the paper.
    headings: of its columns.
    rows: its table.
    points: for each row the value on the x axis, None if it has none.
    x: the field on that axis.
    tradeoff: two headings, whose columns a scatter plot shows; or none.
    histories: how the malicious model of each row's first run trained; of rows
      that share one under the first row's name.
    seconds: what all its stages took, whoever made them; each counts once.
  """

  title: str
  note: str
  headings: list[str]
  rows: list[Row]
  points: list[float | None]
  x: str
  tradeoff: tuple[str, ...]
  histories: dict[str, list[dict[str, float]]]
  seconds: float


def _slug(text: str) -> str:
  """A folder name for a label: letters, digits, dots inside; may be ''."""
  return re.sub(r'[^A-Za-z0-9.]+', '_', text).strip('_.')


def check(config: ConfigDict) -> None:
  """Checks the form of a study.

  Raises:
    UserError: rows, columns, repeats or x are not as in `configs/common.py`.
  """
  study = config.study
  columns = len(study.columns)

  def is_pair(found: Any) -> bool:
    return len(found) == 2 and all(isinstance(text, str) for text in found)

  def is_row(found: Any) -> bool:
    if len(found) != 3 or not is_pair(found[:2]) or not _slug(found[0]):
      return False
    return found[2] is None or len(found[2]) == columns

  for name, good, expected in (
    ('columns', is_pair, '(heading, field of metrics.json)'),
    ('rows', is_row, f'(label, what it sets, {columns} figures or None)'),
    ('repeats', lambda found: isinstance(found, str), "text like 'seed=1'"),
  ):
    bad = [found for found in study[name] if not _holds(good, found)]
    if bad or not study[name]:
      raise errors.UserError(
        f'config.study.{name}: found {bad[0] if bad else "nothing"!r}; '
        f'expected one or more {expected}. See configs/common.py.'
      )
  if study.x:
    _value(config, study.x)
  headings = [heading for heading, _ in study.columns]
  if study.tradeoff and not (
    len(study.tradeoff) == 2 and set(study.tradeoff) <= set(headings)
  ):
    raise errors.UserError(
      f'config.study.tradeoff: found {study.tradeoff!r}; expected two of the '
      f'headings in config.study.columns: {", ".join(headings)}.'
    )


def _holds(good: Callable[[Any], bool], found: Any) -> bool:
  try:
    return good(found)
  except TypeError:  # a number, say, has no length
    return False


def _value(config: ConfigDict, field: str) -> float:
  value: Any = config
  try:
    for name in field.split('.'):
      value = value[name]
    return float(value)
  except (KeyError, TypeError, ValueError):
    raise errors.UserError(
      f'config.study.x: found {field!r}; expected a field of '
      'configs/common.py that is a number.'
    ) from None


def plan(config: ConfigDict, workdir: pathlib.Path) -> list[Run]:
  """The runs of a study, row by row.

  Raises:
    UserError: the study is malformed, a row or a repeat sets what cannot be
      set, two rows share a folder, or a run's config is out of range.
  """
  check(config)
  alone = ConfigDict(config).copy_and_resolve_references()
  alone.study = ConfigDict({'rows': ()})
  runs = []
  for label, overrides, _ in config.study.rows:
    for repeat in config.study.repeats:
      changed = override(alone, overrides, f'config.study.rows, {label!r}')
      changed = override(changed, repeat, 'config.study.repeats')
      rules.check(changed)
      runs.append(Run(label, changed, workdir / _slug(label) / _slug(repeat)))
  if len({run.folder for run in runs}) < len(runs):
    raise errors.UserError(
      'config.study.rows: two rows or repeats have the same name; expected '
      'labels that differ in letters, digits or dots. Rename one.'
    )
  return runs


def run(
  config: ConfigDict,
  workdir: pathlib.Path,
  artifacts: pathlib.Path,
  command: str,
) -> dict[str, Any]:
  """Runs a study, and writes its table and its page.

  Args:
    config: with `study.rows`.
    workdir: where results go; each run has a folder of its own in it.
    artifacts: where stage results are kept and found.
    command: how to repeat the study.

  Returns:
    What is written to `metrics.json`.
  """
  runs = plan(config, workdir)
  rules.check_workdir(workdir, config)
  for one in runs:
    rules.check_pirm(one.config)
    rules.check_weights(one.config)
  for number, one in enumerate(runs, 1):
    say(f'run {number} of {len(runs)}: {one.folder.relative_to(workdir)}')
    if not (one.folder / 'metrics.json').exists():
      pipeline.run(one.config, one.folder, artifacts, command)
    # The first run has shown that the data are there and the columns exist.
    _entries(config, [files.read_json(one.folder / 'metrics.json')], None)
    rules.write_config(workdir, config)
  return publish(workdir, command)


def publish(workdir: pathlib.Path, command: str) -> dict[str, Any]:
  """Writes `metrics.json`, `table.md` and `report.html` of a finished study."""
  study = collect(workdir)
  results = {
    'title': study.title,
    'seconds': study.seconds,
    'rows': study_table.as_json(study.headings, study.rows),
  }
  surroundings = environment.describe(command)
  files.write_json(workdir / 'metrics.json', results)
  files.write_json(workdir / 'environment.json', surroundings)
  section = section_of(study)
  files.write_text(
    workdir / 'table.md',
    f'{study.title}\n\n'
    f'{study_table.markdown(section.header, section.lines)}\n'
    f'{section.note}\n\n    {command}\n',
  )
  if study.histories:
    section.figures['training'] = figures.training_curves(study.histories)
  report.write_sections(
    workdir / 'report.html',
    study.title,
    [section],
    surroundings,
    workdir / 'figures',
  )
  print(table.as_text(section.header, section.lines, study.title, 160))
  return results


def section_of(study: Study) -> report.Section:
  """The study's table and its figure."""
  return report.Section(
    study.title,
    study_table.header(study.headings, study.rows),
    study_table.lines(study.rows),
    {'figure': _figure(study)},
    f'{study.note} Rates in percent: mean over the runs ± their standard '
    "deviation, and Wilson's 95 % interval over the test pictures of all runs, "
    'which counts a picture once for each run that tests it. All stages '
    f'together took {study.seconds:.0f} s. Training curves are those of the '
    "malicious model in each row's first run; rows that share one have one "
    'curve.',
  )


def _figure(study: Study) -> Figure:
  if study.tradeoff:
    return study_figures.tradeoff(study.headings, study.rows, study.tradeoff)
  return study_figures.rates(study.headings, study.rows, study.points, study.x)


def missing(workdir: pathlib.Path) -> list[pathlib.Path]:
  """The folders of a study's runs that have no results."""
  return _absent(plan(_read_config(workdir), workdir))


def _absent(runs: list[Run]) -> list[pathlib.Path]:
  return [
    one.folder for one in runs if not (one.folder / 'metrics.json').exists()
  ]


def _read_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of a study, from its folder."""
  stored = json.loads((workdir / 'config.json').read_text('utf-8'))
  return ConfigDict(_with_tuples(stored))


def _with_tuples(value: Any) -> Any:
  """JSON has lists where a config has tuples."""
  if isinstance(value, dict):
    return {name: _with_tuples(found) for name, found in value.items()}
  if isinstance(value, list):
    return tuple(map(_with_tuples, value))
  return value


def collect(workdir: pathlib.Path) -> Study:
  """The table of a study from the results of its runs.

  Raises:
    UserError: some have not run; a half-filled table would mislead.
  """
  config = _read_config(workdir)
  runs = plan(config, workdir)
  absent = _absent(runs)
  if absent:
    raise errors.UserError(
      f'{workdir}: {len(absent)} runs of this study have no results: '
      f'{", ".join(str(folder.relative_to(workdir)) for folder in absent)}; '
      'expected all. Give the command of the study again; what is done is kept.'
    )
  rows, points, histories = [], [], {}
  for label, _, paper in config.study.rows:
    mine = [one for one in runs if one.row == label]
    found = [files.read_json(one.folder / 'metrics.json') for one in mine]
    rows.append(Row(label, _entries(config, found, paper), len(found)))
    points.append(_point(config, mine[0]))
    log = mine[0].folder / 'training' / 'malicious.jsonl'
    if log.exists():
      records = log.read_text('utf-8').splitlines()
      history = [json.loads(record) for record in records]
      if history not in histories.values():
        histories[label] = history
  if config.study.pooled:
    pooled = study_table.pooled(rows)
    rows += pooled
    points += [None] * len(pooled)
  headings = [heading for heading, _ in config.study.columns]
  return Study(
    config.study.title,
    config.study.note,
    headings,
    rows,
    points,
    config.study.x,
    tuple(config.study.tradeoff),
    histories,
    _seconds(runs),
  )


def _seconds(runs: list[Run]) -> float:
  stages = [
    stage
    for one in runs
    for stage in files.read_json(one.folder / 'metrics.json')['stages'].values()
  ]
  return round(sum({s['key']: s['seconds'] for s in stages}.values()), 1)


def _entries(
  config: ConfigDict, runs: list[dict[str, Any]], paper: Any
) -> list[study_table.Entry]:
  columns = config.study.columns
  theirs = paper or [None] * len(columns)
  try:
    return [
      study_table.entry(runs, field, value)
      for (_, field), value in zip(columns, theirs, strict=True)
    ]
  except KeyError as error:
    raise errors.UserError(
      f'config.study.columns: the metrics have no {error}; expected a field of '
      'metrics.json, of a model that config.models asks for.'
    ) from None


def _point(config: ConfigDict, one: Run) -> float | None:
  """Where a row stands on the x axis: only rows 'line, point' do."""
  if not config.study.x or ', ' not in one.row:
    return None
  return _value(one.config, config.study.x)
