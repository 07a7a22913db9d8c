"""What a sweep has found: one table of all runs, one page."""

import csv
import io
import pathlib
from collections.abc import Sequence
from typing import Any

from babam_jax import files
from babam_jax.evaluation import report, study_figures, study_table
from babam_jax.evaluation.study_table import Row
from babam_jax.experiment import environment
from babam_jax.runs.plan import Job
from babam_jax.runs.state import DONE, State

# Columns of the page, where the runs have them.
_COLUMNS = (
  ('clean accuracy', 'models.clean.accuracy'),
  ('malicious accuracy', 'models.malicious.accuracy'),
  ('protected accuracy', 'models.protected.accuracy'),
  ('malicious ASR', 'models.malicious.asr'),
  ('protected ASR', 'models.protected.asr'),
  ('PIRM TPR', 'pirm.training_set.tpr'),
  ('PIRM FPR', 'pirm.training_set.fpr'),
)
# Times, and what is no figure.
_LEFT_OUT = ('stages', 'seconds', 'holdout', 'weights')


def write_csv(
  workdir: pathlib.Path, planned: Sequence[Job], states: Sequence[State]
) -> None:
  """Writes `results.csv`: a line a run, what it set, what it measured.

  It holds no times and no places: the same sweep gives the same file, wherever
  it ran. A run that is not done has its state, and no figures.
  """
  lines = []
  for job, state in zip(planned, states, strict=True):
    line: dict[str, Any] = {'run': job.name, 'state': state.state}
    line |= job.overrides
    if state.state == DONE:
      line |= _figures(files.read_json(job.folder / 'metrics.json'))
    lines.append(line)
  fields = list(dict.fromkeys(name for line in lines for name in line))
  text = io.StringIO()
  writer = csv.DictWriter(text, fields, restval='', lineterminator='\n')
  writer.writeheader()
  writer.writerows(lines)
  files.write_text(workdir / 'results.csv', text.getvalue())


def _figures(metrics: dict[str, Any], path: str = '') -> dict[str, Any]:
  """All numbers of nested dicts, by the path to them."""
  found: dict[str, Any] = {}
  for name, value in metrics.items():
    if name in _LEFT_OUT:
      continue
    if isinstance(value, dict):
      found |= _figures(value, f'{path}{name}.')
    elif isinstance(value, (int, float)):
      found[f'{path}{name}'] = value
  return found


def write_page(
  workdir: pathlib.Path,
  title: str,
  planned: Sequence[Job],
  states: Sequence[State],
  command: str,
) -> None:
  """Writes `report.html`: a row for all runs that differ in their seed alone.

  Args:
    workdir: of the sweep.
    title: what it is called.
    planned: its jobs.
    states: of each.
    command: how to repeat it.
  """
  sections = []
  done = [
    job
    for job, state in zip(planned, states, strict=True)
    if state.state == DONE
  ]
  if done:
    sections.append(_table(title, done))
  absent = [state for state in states if state.state != DONE]
  if absent:
    lines = [
      (s.name, s.state, s.host, ' / '.join(s.last_lines)) for s in absent
    ]
    header = ('run', 'state', 'host', 'its last lines')
    sections.append(report.Section('Not shown', header, lines, {}, ''))
  report.write_sections(
    workdir / 'report.html',
    title,
    sections,
    environment.describe(command),
    workdir / 'figures',
  )


def _table(title: str, done: Sequence[Job]) -> report.Section:
  groups: dict[str, list[Job]] = {}
  for job in done:
    groups.setdefault(_label(job), []).append(job)
  found = {
    label: [files.read_json(job.folder / 'metrics.json') for job in jobs]
    for label, jobs in groups.items()
  }
  every = [metrics for group in found.values() for metrics in group]
  columns = [(h, field) for h, field in _COLUMNS if _all_have(every, field)]
  rows = [
    Row(
      label,
      [study_table.entry(group, field, None) for _, field in columns],
      len(group),
    )
    for label, group in found.items()
  ]
  headings = [heading for heading, _ in columns]
  x, points = _axis(groups)
  return report.Section(
    title,
    study_table.header(headings, rows),
    study_table.lines(rows),
    {'sweep': study_figures.rates(headings, rows, points, x)},
    'Rates in percent: mean over the seeds ± their standard deviation, and '
    "Wilson's 95 % interval over the test pictures of all runs. The runs "
    f'together took {_seconds(every):.0f} s, stages that they share once.',
  )


def _label(job: Job) -> str:
  rest = {k: v for k, v in job.overrides.items() if k != 'seed'}
  if len(rest) == 1:
    return ', '.join(map(str, *rest.items()))  # the line and its point
  return ' '.join(f'{k}={v}' for k, v in rest.items()) or 'all seeds'


def _all_have(runs: Sequence[dict], field: str) -> bool:
  try:
    study_table.entry(runs, field, None)
  except KeyError:
    return False
  return True


def _axis(groups: dict[str, list[Job]]) -> tuple[str, list[float | None]]:
  """The one field that varies, if it is a number, and its value in each row."""
  rest = [
    {k: v for k, v in jobs[0].overrides.items() if k != 'seed'}
    for jobs in groups.values()
  ]
  fields = {field for row in rest for field in row}
  values = [value for row in rest for value in row.values()]
  if len(fields) == 1 and all(type(v) in (int, float) for v in values):
    return fields.pop(), values
  return '', [None] * len(rest)


def _seconds(runs: Sequence[dict]) -> float:
  stages = [stage for run in runs for stage in run['stages'].values()]
  return sum({s['key']: s['seconds'] for s in stages}.values())
