"""What was found, as `scores.csv`, `summary.json` and `report.html`."""

import csv
import heapq
import io
import pathlib
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from babam_jax import files
from babam_jax.evaluation import figures, report
from babam_jax.sanitizer import class_verdict, picture
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
_SUSPECT_HEADER = ('class', 'judged', 'flagged', 'p-value')
_SUSPECT_NOTE = (
  'Poison is made for one victim, whose class it fills. In these classes more '
  'pictures are flagged than chance explains, if at most {rate} of clean '
  'pictures are: the p-value is the probability of so many flags in a clean '
  f'class (binomial; named below {class_verdict.NAMED:g}, corrected for the '
  'number of classes). Pictures unlike those on which the rate was measured, '
  'such as very noisy ones, can do the same: look at them.'
)
RATE_FAILS = (
  'Flags are spread over many classes, as no attack on one victim spreads '
  'them: these pictures are unlike those on which the false-positive rate was '
  'measured (noise, texture), and more clean ones are flagged than it says. '
  'Look at the flagged pictures before you use the output.'
)


class ClassCounts(NamedTuple):
  """What was found in a class.

  Attributes:
    name: its name, printable.
    files: the number of its files.
    judged: how many of them have a score.
    flagged: how many of these are flagged.
    unjudged: how many could not be judged.
  """

  name: str
  files: int
  judged: int
  flagged: int
  unjudged: int


class Findings:
  """Counts of what was found; its memory does not grow with the pictures."""

  def __init__(self, csv_file: io.TextIOBase):
    self._table = csv.writer(
      csv_file, lineterminator='\n', quoting=csv.QUOTE_ALL
    )
    self._table.writerow(_COLUMNS)
    self.actions: Counter[str] = Counter()
    self.unjudged: list[tuple[str, str]] = []
    self.classes: list[ClassCounts] = []
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
      self.classes.append(
        ClassCounts(
          records[0].class_name,
          len(records),
          sum(record.score is not None for record in records),
          sum(record.flagged for record in records),
          sum(record.action == NOT_JUDGED for record in records),
        )
      )

  @property
  def flagged(self) -> int:
    """How many pictures were flagged."""
    return sum(counts.flagged for counts in self.classes)

  def class_verdicts(self, rate: float | None) -> dict[str, Any]:
    """What the numbers of flags say of classes, and of the rate itself.

    Args:
      rate: the share of clean pictures that are flagged, at most; None if
        nothing is known of it, and so of classes.
    """
    if rate is None:
      return {'suspicious_classes': [], 'rate_holds': None}
    p_values = [
      class_verdict.p_value(counts.flagged, counts.judged, rate)
      for counts in self.classes
    ]
    are_named = class_verdict.named(p_values)
    found = zip(self.classes, p_values, are_named, strict=True)
    suspects = [
      {
        'class': counts.name,
        'judged': counts.judged,
        'flagged': counts.flagged,
        'p_value': p,
      }
      for counts, p, is_named in found
      if is_named
    ]
    return {
      'suspicious_classes': sorted(
        suspects, key=lambda one: (one['p_value'], one['class'])
      ),
      'rate_holds': class_verdict.rate_holds(p_values),
    }


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
  findings: Findings,
  settings: dict[str, Any],
  fingerprint: str,
  rate: float | None,
) -> dict[str, Any]:
  """What `summary.json` holds.

  Args:
    findings: the counts of all classes.
    settings: the settings of the run.
    fingerprint: of the input.
    rate: the share of clean pictures that are flagged, at most, as
      `Findings.class_verdicts` has it.
  """
  return {
    'settings': settings,
    'input_fingerprint': fingerprint,
    'files': sum(findings.actions.values()),
    'flagged': findings.flagged,
    'actions': dict(sorted(findings.actions.items())),
    'classes': len(findings.classes),
    'highest_clean_rate': rate,
    **findings.class_verdicts(rate),
    'not_judged': [
      {'path': path, 'note': note} for path, note in findings.unjudged
    ],
  }


def earlier_summary(
  root: pathlib.Path, settings: dict[str, Any], fingerprint: str
) -> dict[str, Any] | None:
  """The `summary` in a folder that the same command has completed; None if it
  has not, or did so in another version.

  Args:
    root: the output folder.
    settings: those of the command.
    fingerprint: of the input.
  """
  if not is_complete(root):
    return None
  try:
    found = files.read_json(root / 'summary.json')
  except ValueError:  # the user's own, perhaps
    return None
  asked = {'settings': settings, 'input_fingerprint': fingerprint}
  like_ours = summary(Findings(io.StringIO()), settings, fingerprint, None)
  if not isinstance(found, dict) or found.keys() != like_ours.keys():
    return None
  return found if asked.items() <= found.items() else None


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
  sections = _class_sections(found)
  sections += [
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


def _class_sections(found: dict[str, Any]) -> list[report.Section]:
  """What is said of classes before all else: that some hold poison, or that
  the rate does not hold."""
  suspects, sections = found['suspicious_classes'], []
  if found['rate_holds'] is False:
    sections.append(
      report.Section('The rate does not hold', (), [], {}, RATE_FAILS)
    )
  if suspects:
    lines = [
      (
        one['class'],
        str(one['judged']),
        str(one['flagged']),
        f'{one["p_value"]:.1e}',
      )
      for one in suspects[:_CLASSES_SHOWN]
    ]
    rate = f'{100 * found["highest_clean_rate"]:.2g} %'
    note = _SUSPECT_NOTE.format(rate=rate)
    title = 'Classes that stand out'
    sections.append(report.Section(title, _SUSPECT_HEADER, lines, {}, note))
  return sections


def _class_lines(findings: Findings) -> list[tuple[str, ...]]:
  ordered = sorted(findings.classes, key=lambda c: (-c.flagged / c.files, c))
  return [
    (
      counts.name,
      str(counts.files),
      str(counts.flagged),
      f'{100 * counts.flagged / counts.files:.1f}',
      str(counts.unjudged),
    )
    for counts in ordered[:_CLASSES_SHOWN]
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
