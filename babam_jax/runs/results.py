"""What the runs of a plan have found: one table, one page."""

import csv
import io
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from babam_jax import files
from babam_jax.config import rules
from babam_jax.evaluation import (
  figures,
  report,
  study_table,
  table,
)
from babam_jax.experiment import environment
from babam_jax.runs import metrics_file
from babam_jax.runs.plan import Run
from babam_jax.runs.state import DONE, State
from babam_jax.runs.tables import Table, section_of, tabulate

# Columns of a sweep, where the runs have them.
_COLUMNS = (
  ('clean accuracy', 'models.clean.accuracy'),
  ('malicious accuracy', 'models.malicious.accuracy'),
  ('protected accuracy', 'models.protected.accuracy'),
  ('malicious ASR', 'models.malicious.asr'),
  ('protected ASR', 'models.protected.asr'),
  ('PIRM TPR', 'pirm.training_set.tpr'),
  ('PIRM FPR', 'pirm.training_set.fpr'),
)
# Left out of `results.csv`: times, and what is no figure.
_LEFT_OUT = ('stages', 'seconds', 'holdout', 'weights')
_WIDTH = 160  # characters of a terminal


def _page_section(found: Table) -> report.Section:
  section = section_of(found)
  if found.histories:
    section.figures['training'] = figures.training_curves(found.histories)
  return section


def _surroundings(runs: Sequence[Run], command: str) -> dict[str, Any]:
  """The surroundings of the runs; those of this process may differ."""
  for run in runs:
    path = run.folder / 'environment.json'
    if path.exists():
      with files.as_written(path, 'results', f'Remove {path}.'):
        return files.read_json(path) | {'command': command}
  return environment.describe(command)


# --- Studies ---


def publish_study(
  workdir: pathlib.Path, config: ConfigDict, runs: Sequence[Run], command: str
) -> None:
  """Writes and prints a study's table: `metrics.json`, `table.md` and
  `report.html`.

  Args:
    workdir: the folder of the study.
    config: has `config.study`.
    runs: the runs of the study, all done.
    command: how to repeat the study.

  Raises:
    UserError: as in `tabulate`.
  """
  found = tabulate(runs, config.study)
  surroundings = _surroundings(runs, command)
  results = {
    'title': found.title,
    'seconds': found.seconds,
    'rows': study_table.as_json(found.headings, found.lines),
  }
  rules.write_config(workdir, config)
  files.write_json(workdir / 'metrics.json', results)
  files.write_json(workdir / 'environment.json', surroundings)
  section = _page_section(found)
  files.write_text(
    workdir / 'table.md',
    f'{found.title}\n\n'
    f'{study_table.markdown(section.header, section.lines)}\n'
    f'{section.note}\n\n    {command}\n',
  )
  report.write_sections(
    workdir / 'report.html',
    found.title,
    [section],
    surroundings,
    workdir / 'figures',
  )
  print(table.as_text(section.header, section.lines, found.title, _WIDTH))


# --- Sweeps ---


def publish_sweep(
  workdir: pathlib.Path,
  title: str,
  runs: Sequence[Run],
  states: Sequence[State],
  command: str,
) -> None:
  """Writes `results.csv` and `report.html` of a sweep, done or not.

  Args:
    workdir: the folder of the sweep.
    title: the title of the page.
    runs: the runs of the sweep.
    states: the state of each run.
    command: how to repeat the sweep.
  """
  _write_csv(workdir / 'results.csv', runs, states)
  is_done = {state.name: state.state == DONE for state in states}
  done = [run for run in runs if is_done[run.name]]
  sections = []
  if done:
    sections.append(_page_section(tabulate(done, _layout(title, done))))
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
    _surroundings(runs, command),
    workdir / 'figures',
  )


def _write_csv(
  path: pathlib.Path, runs: Sequence[Run], states: Sequence[State]
) -> None:
  """Writes a line for each run: what it sets, what it measured.

  The file holds no times and no hosts: the same sweep gives the same file,
  wherever it ran. A run that is not done has its state, and no figures.
  """
  lines = []
  for run, state in zip(runs, states, strict=True):
    line: dict[str, Any] = {'run': run.name, 'state': state.state}
    line |= run.sets
    if state.state == DONE:
      line |= _figures(metrics_file.read(run.folder))
    lines.append(line)
  fields = list(dict.fromkeys(name for line in lines for name in line))
  text = io.StringIO()
  writer = csv.DictWriter(text, fields, restval='', lineterminator='\n')
  writer.writeheader()
  writer.writerows(lines)
  files.write_text(path, text.getvalue())


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


def _layout(title: str, runs: Sequence[Run]) -> ConfigDict:
  """A sweep's table: the columns that all runs have, over the one number that
  varies, if there is one."""
  every = [metrics_file.read(run.folder) for run in runs]
  values = [value for run in runs for value in run.row.sets.values()]
  fields = {field for run in runs for field in run.row.sets}
  numbers = all(type(value) in (int, float) for value in values)
  return ConfigDict(
    {
      'title': title,
      'note': '',
      'columns': tuple(c for c in _COLUMNS if _all_have(every, c[1])),
      'pooled': False,
      'x': fields.pop() if len(fields) == 1 and numbers else '',
      'tradeoff': (),
    }
  )


def _all_have(metrics: Sequence[dict[str, Any]], field: str) -> bool:
  try:
    study_table.entry(metrics, field, None)
  except KeyError:
    return False
  return True
