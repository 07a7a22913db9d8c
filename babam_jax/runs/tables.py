"""The table of runs, from what they left in their folders."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from babam_jax import errors, files
from babam_jax.config import rules
from babam_jax.config.rows import Row
from babam_jax.evaluation import report, study_figures, study_table
from babam_jax.evaluation.canvas import Figure
from babam_jax.evaluation.study_table import Entry, Line
from babam_jax.runs import metrics_file, plan, study_form
from babam_jax.runs.plan import Run


class Table(NamedTuple):
  """The table of a study or a sweep.

  Attributes:
    title: its title.
    note: what a reader must know to compare it with the paper.
    headings: those of its columns.
    lines: its lines, one for each row of the study.
    points: for each line the value on the x axis, None if it has none.
    x: the field on that axis.
    tradeoff: two headings, whose columns scatter plots show; or none.
    histories: training metrics of the malicious model in each row's first run;
      rows that share a model have one entry, under the first row's name.
    seconds: the seconds of all its stages, each of which counts once.
  """

  title: str
  note: str
  headings: list[str]
  lines: list[Line]
  points: list[float | None]
  x: str
  tradeoff: tuple[str, ...]
  histories: dict[str, list[dict[str, Any]]]
  seconds: float


def tabulate(runs: Sequence[Run], study: ConfigDict) -> Table:
  """The table of runs, from what they left in their folders.

  Args:
    runs: all runs of a plan.
    study: the layout of the table, a node like `config.study`.

  Raises:
    UserError: runs have no results (a half-filled table would mislead) or those
      of another config, or a column is not in the metrics.
  """
  absent = plan.missing(runs)
  if absent:
    raise errors.UserError(
      f'{len(absent)} of {len(runs)} runs have no results: '
      f'{", ".join(str(run.folder) for run in absent)}; expected all. Give the '
      'command again; what is done is kept.'
    )
  for run in runs:
    rules.check_workdir(run.folder, run.config)
  metrics = {run.name: metrics_file.read(run.folder) for run in runs}
  lines, points, histories = [], [], {}
  for row, mine in _by_row(runs):
    entries = _entries(study, [metrics[run.name] for run in mine], row)
    lines.append(Line(row.label, entries, len(mine), row.panel))
    is_point = study.x and row.panel
    points.append(
      study_form.value_of(mine[0].config, study.x) if is_point else None
    )
    history = _history(mine[0])
    if history and history not in histories.values():
      histories[row.name] = history
  if study.pooled:
    pooled = study_table.pooled(lines)
    lines += pooled
    points += [None] * len(pooled)
  return Table(
    study.title,
    study.note,
    [heading for heading, _ in study.columns],
    lines,
    points,
    study.x,
    tuple(study.tradeoff),
    histories,
    _seconds(metrics.values()),
  )


def _by_row(runs: Sequence[Run]) -> list[tuple[Row, list[Run]]]:
  found: dict[str, list[Run]] = {}
  for run in runs:
    found.setdefault(run.row.name, []).append(run)
  return [(mine[0].row, mine) for mine in found.values()]


def _history(run: Run) -> list[dict[str, Any]]:
  path = run.folder / 'training' / 'malicious.jsonl'
  if not path.exists():
    return []
  remedy = f'Remove the folder {run.folder} and give the command again.'
  with files.as_written(path, 'results', remedy):
    lines = path.read_text('utf-8').splitlines()
    records = [files.parse_json(line) for line in lines]
    for record in records:
      for name in ('step', 'loss', 'accuracy'):
        float(record[name])
    return records


def _seconds(metrics: Iterable[dict[str, Any]]) -> float:
  stages = [stage for found in metrics for stage in found['stages'].values()]
  return round(sum({s['key']: s['seconds'] for s in stages}.values()), 1)


def _entries(
  study: ConfigDict, metrics: Sequence[dict[str, Any]], row: Row
) -> list[Entry]:
  try:
    return [
      study_table.entry(metrics, field, row.paper.get(heading))
      for heading, field in study.columns
    ]
  except KeyError as error:
    raise errors.UserError(
      f'config.study.columns: the metrics have no {error}; expected a field of '
      'metrics.json, of a model that config.models asks for.'
    ) from None


def section_of(found: Table) -> report.Section:
  """The table and its figure."""
  return report.Section(
    found.title,
    study_table.header(found.headings, found.lines),
    study_table.cells(found.lines),
    {'figure': _figure(found)},
    f'{found.note} Rates in percent: mean over the runs ± their standard '
    "deviation, and Wilson's 95 % interval over the test pictures of all runs, "
    'which counts a picture once for each run that tests it. All stages '
    f'together took {found.seconds:.0f} s. Training curves are those of the '
    "malicious model in each row's first run; rows that share one have one "
    'curve.',
    {'figure': f'{found.title}: the figures of the table, drawn.'},
  )


def _figure(found: Table) -> Figure:
  if found.tradeoff:
    return study_figures.tradeoff(found.headings, found.lines, found.tradeoff)
  return study_figures.rates(found.headings, found.lines, found.points, found.x)


def check_columns(study: ConfigDict, run: Run) -> None:
  """Checks, after a study's first run, that its columns exist.

  Raises:
    UserError: one does not.
  """
  _entries(study, [metrics_file.read(run.folder)], run.row)
