"""What was found, as `scores.csv`, `summary.json` and `report.html`."""

import csv
import heapq
import io
import pathlib
from collections import Counter
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from babam_jax import files
from babam_jax.evaluation import figures, report
from babam_jax.sanitizer import picture
from babam_jax.sanitizer.names import printable
from babam_jax.sanitizer.output import NOT_JUDGED, Record, is_complete

_SHOWN = 8  # the worst offenders
_CLASSES_SHOWN = 100
_BINS = 40
_COLUMNS = (
  'path',
  'class',
  'score',
  'flagged',
  'sensitivity',
  'noise_scale',
  'action',
  'output',
  'note',
)
_CLASS_HEADER = ('class', 'files', 'flagged', 'flagged %', 'not judged')


class Findings:
  """Counts of what was found; its memory does not grow with the pictures."""

  def __init__(self, csv_file: io.TextIOBase):
    self._table = csv.writer(
      csv_file, lineterminator='\n', quoting=csv.QUOTE_ALL
    )
    self._table.writerow(_COLUMNS)
    self.actions: Counter[str] = Counter()
    self.unjudged: list[tuple[str, str]] = []
    self.classes: list[tuple[str, int, int, int]] = []
    self.histogram = np.zeros(_BINS, int)
    # The highest scores among the flagged: (score, path, output).
    self.worst: list[tuple[float, str, str]] = []

  def add(self, records: list[Record]) -> None:
    """Counts the records of one class."""
    for record in records:
      self._table.writerow(_row(record))
      self.actions[record.action] += 1
      if record.action == NOT_JUDGED:
        self.unjudged.append((record.path, record.note))
      if record.score is None:
        continue
      place = min(int(record.score * _BINS), _BINS - 1)
      self.histogram[place] += 1
      if record.flagged:
        item = (record.score, record.path, record.output)
        self.worst = heapq.nlargest(_SHOWN, [*self.worst, item])
    if records:
      flagged = sum(record.flagged for record in records)
      unjudged = sum(record.action == NOT_JUDGED for record in records)
      name = records[0].class_name
      self.classes.append((name, len(records), flagged, unjudged))

  @property
  def flagged(self) -> int:
    """How many pictures were flagged."""
    return sum(flagged for _, _, flagged, _ in self.classes)


def _row(record: Record) -> tuple[Any, ...]:
  def number(value: float | None) -> str:
    return '' if value is None else repr(value)

  flagged = '' if record.score is None else str(record.flagged).lower()
  return (
    record.path,
    record.class_name,
    number(record.score),
    flagged,
    number(record.sensitivity),
    number(record.scale),
    record.action,
    record.output,
    record.note,
  )


def summary(
  findings: Findings, settings: dict[str, Any], fingerprint: str
) -> dict[str, Any]:
  """What `summary.json` holds.

  Args:
    findings: the counts of all classes.
    settings: the settings of the run.
    fingerprint: of the input.
  """
  return {
    'settings': settings,
    'input_fingerprint': fingerprint,
    'files': sum(findings.actions.values()),
    'flagged': findings.flagged,
    'actions': dict(sorted(findings.actions.items())),
    'classes': len(findings.classes),
    'not_judged': [
      {'path': path, 'note': note} for path, note in findings.unjudged
    ],
  }


def earlier_summary(root: pathlib.Path) -> dict[str, Any]:
  """The `summary` in a folder that is complete; {} if it is not."""
  if not is_complete(root):
    return {}
  try:
    found = files.read_json(root / 'summary.json')
  except ValueError:  # the user's own, perhaps
    return {}
  return found if isinstance(found, dict) else {}


def write(
  root: pathlib.Path,
  source: pathlib.Path,
  findings: Findings,
  table: str,
  found: dict[str, Any],
  surroundings: dict[str, Any],
) -> None:
  """Writes the three files.

  Args:
    root: the output folder.
    source: the input folder.
    findings: the counts of all classes.
    table: the text of `scores.csv`.
    found: the `summary` of the findings.
    surroundings: how to repeat the run, and what it ran on.
  """
  settings = found['settings']
  files.write_text(root / 'scores.csv', table)
  files.write_json(root / 'summary.json', found)
  drawn = {
    'scores': figures.score_histogram(findings.histogram, settings['threshold'])
  }
  sections = [
    report.Section(
      'What was found',
      ('', 'files'),
      [
        ('all', str(found['files'])),
        ('flagged', str(found['flagged'])),
        *((action, str(n)) for action, n in found['actions'].items()),
      ],
      drawn | _worst_pictures(root, source, findings),
      'The flagged pictures with the highest scores are shown as they were '
      'found and as they were written. All files are in scores.csv.',
    ),
    report.Section(
      'Classes',
      _CLASS_HEADER,
      _class_lines(findings),
      {},
      f'The {_CLASSES_SHOWN} classes with the largest flagged share.',
    ),
  ]
  if findings.unjudged:
    lines = findings.unjudged[:_CLASSES_SHOWN]
    sections.append(
      report.Section('Not judged', ('file', 'why'), lines, {}, '')
    )
  report.write_sections(
    root / 'report.html',
    f'Sanitized: {printable(source.name)}',
    sections,
    surroundings,
    None,
  )


def _class_lines(findings: Findings) -> list[tuple[str, ...]]:
  ordered = sorted(findings.classes, key=lambda c: (-c[2] / c[1], c[0]))
  return [
    (name, str(count), str(flagged), f'{100 * flagged / count:.1f}', str(not_))
    for name, count, flagged, not_ in ordered[:_CLASSES_SHOWN]
  ]


def _worst_pictures(
  root: pathlib.Path, source: pathlib.Path, findings: Findings
) -> dict[str, Figure]:
  """The pictures with the highest scores, before and after."""
  shown = []
  for score, path, output in findings.worst:
    try:
      before = picture.read(source / path).pixels
      after = picture.read(root / output).pixels if output else before
    except picture.UnjudgedError:  # an escaped name, for instance
      continue
    shown.append((f'{score:.3f} {path}', before, after))
  return {'worst': figures.worst_offenders(shown)} if shown else {}
