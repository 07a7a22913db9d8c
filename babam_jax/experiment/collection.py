"""Many working folders on one page: a table a study, one for all else."""

import pathlib
from typing import Any

from babam_jax import errors, files
from babam_jax.evaluation import figures, report, study_table, table
from babam_jax.experiment import environment, study

_RUN_HEADER = ('run', *table.MODEL_HEADER)


def write_page(folder: pathlib.Path, command: str) -> list[pathlib.Path]:
  """Writes `report.html` and `report.md` of all that lies below a folder.

  Args:
    folder: with working folders at any depth.
    command: how to repeat the collection.

  Returns:
    The folders of runs without results, whose studies are left out.

  Raises:
    UserError: there is no working folder.
  """
  studies, runs = _find(folder)
  absent = [run for one in studies for run in study.missing(one)]
  whole = [one for one in studies if not study.missing(one)]
  sections = [_study_section(one) for one in whole]
  if runs:
    sections.append(_runs_section(folder, runs))
  text = '\n'.join(
    f'## {section.title}\n\n'
    + study_table.markdown(section.header, section.lines)
    for section in sections
  )
  files.write_text(folder / 'report.md', text)
  report.write_sections(
    folder / 'report.html',
    f'All runs in {folder.name}',
    sections,
    environment.describe(command),
    None,
  )
  return absent


def _find(folder: pathlib.Path) -> tuple[list, list]:
  """The folders of studies, and of runs that belong to none."""
  configs = {
    path.parent: files.read_json(path)
    for path in sorted(folder.rglob('config.json'))
  }
  if not configs:
    raise errors.UserError(
      f'--runs: no config.json below {str(folder)!r}; expected a folder of '
      'working folders, as launch.main writes them.'
    )
  studies = [one for one, found in configs.items() if _is_study(found)]
  runs = [
    one
    for one in configs
    if one not in studies
    and not any(parent in studies for parent in one.parents)
    and (one / 'metrics.json').exists()
  ]
  return studies, runs


def _is_study(config: dict[str, Any]) -> bool:
  return bool(config.get('study', {}).get('rows'))


def _study_section(folder: pathlib.Path) -> report.Section:
  found = study.collect(folder)
  return report.Section(
    found.title,
    study_table.header(found.headings, found.rows),
    study_table.lines(found.rows),
    {f'{folder.name}': figures.study(found.headings, found.rows, found.points)},
  )


def _runs_section(
  folder: pathlib.Path, runs: list[pathlib.Path]
) -> report.Section:
  lines = [
    (str(run.relative_to(folder)), *row)
    for run in runs
    for row in table.model_rows(files.read_json(run / 'metrics.json'))
  ]
  return report.Section('Single runs', _RUN_HEADER, lines, {})
