"""Many working folders on one page: a table for each study, one for others."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from babam_jax import errors, files
from babam_jax.evaluation import report, study_table, table
from babam_jax.experiment import environment
from babam_jax.runs import metrics_file, plan
from babam_jax.runs.tables import section_of, tabulate

_RUN_HEADER = ('run', *table.MODEL_HEADER)
_RUN_NOTE = "Rates in percent, with Wilson's 95 % intervals."


class Found(NamedTuple):
  """Working folders.

  Attributes:
    studies: those whose runs are all done.
    runs: those of runs that belong to no study, and are done.
    absent: the folders that cannot be shown, and why.
  """

  studies: list[pathlib.Path]
  runs: list[pathlib.Path]
  absent: list[tuple[pathlib.Path, str]]


def write_page(
  folder: pathlib.Path, command: str
) -> list[tuple[pathlib.Path, str]]:
  """Writes `report.html` and `report.md` of all that lies below a folder.

  Args:
    folder: holds working folders at any depth, and is not one itself.
    command: how to repeat the collection.

  Returns:
    What is left out, and why: studies with runs missing, unfinished runs.

  Raises:
    UserError: there is no working folder, or the folder is one.
  """
  found = find(folder)
  shown = sections(folder, found)
  text = '\n'.join(
    f'## {section.title}\n\n'
    f'{study_table.markdown(section.header, section.lines)}\n{section.note}\n'
    for section in shown
  )
  files.write_text(folder / 'report.md', text)
  report.write_sections(
    folder / 'report.html',
    f'All runs in {folder.name}',
    shown,
    environment.describe(command),
    None,
  )
  return found.absent


def sections(folder: pathlib.Path, found: Found) -> list[report.Section]:
  """The parts of the page: each study, the single runs, what is left out."""
  parts = [_study_section(one) for one in found.studies]
  if found.runs:
    parts.append(_runs_section(folder, found.runs))
  if found.absent:
    lines = [(str(path), why) for path, why in found.absent]
    header = ('folder', 'why')
    parts.append(report.Section('Not shown', header, lines, {}, ''))
  return parts


def find(folder: pathlib.Path) -> Found:
  """The working folders below a folder."""
  configs = {
    path.parent: _read(path) for path in sorted(folder.rglob('config.json'))
  }
  if not configs or folder in configs:
    raise errors.UserError(
      f'--runs: {"no" if not configs else "its own"} config.json in '
      f'{str(folder)!r}; expected a folder of working folders, as launch.main '
      'writes them. Give the folder that they lie in.'
    )
  found = Found([], [], [])
  for one, config in configs.items():
    if any(_is_study(configs.get(parent)) for parent in one.parents):
      continue  # a run of a study
    if (one / 'stages.json').exists():
      continue  # a training of a PIRM, which has no table
    if config is None:
      found.absent.append((one, 'its config.json is not one of ours'))
    elif _is_study(config):
      _file_study(found, one)
    elif (one / 'metrics.json').exists():
      found.runs.append(one)
    else:
      found.absent.append((one, 'has no metrics.json: it is not finished'))
  return found


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  try:
    config = files.read_json(path)
  except (OSError, ValueError):
    return None
  return config if isinstance(config, dict) and 'study' in config else None


def _is_study(config: dict[str, Any] | None) -> bool:
  return bool(config and config['study'].get('rows'))


def _file_study(found: Found, folder: pathlib.Path) -> None:
  try:
    _, runs = plan.stored_study(folder)
  except errors.UserError as error:
    found.absent.append((folder, str(error)))
    return
  missing = plan.missing(runs)
  if missing:
    found.absent.extend((run.folder, 'has no results') for run in missing)
  else:
    found.studies.append(folder)


def _study_section(folder: pathlib.Path) -> report.Section:
  config, runs = plan.stored_study(folder)
  return section_of(tabulate(runs, config.study))


def _runs_section(
  folder: pathlib.Path, runs: Sequence[pathlib.Path]
) -> report.Section:
  lines = []
  for run in runs:
    metrics = metrics_file.read(run)
    with metrics_file.as_written(run):
      rows = table.model_rows(metrics)
    lines += [(str(run.relative_to(folder)), *row) for row in rows]
  return report.Section('Single runs', _RUN_HEADER, lines, {}, _RUN_NOTE)
