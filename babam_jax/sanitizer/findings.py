"""What was found, counted: `scores.csv` and `summary.json`."""

import csv
import dataclasses
import heapq
import io
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from babam_jax import files
from babam_jax.sanitizer.folder_verdict import NOTHING, FolderVerdict
from babam_jax.sanitizer.output import is_complete
from babam_jax.sanitizer.record import (
  NOT_JUDGED,
  PERTURBATION,
  VISIBLE,
  Record,
)

TWINS = 6  # pictures of a thing that are named
_WORST = 8  # pictures that are shown, the worst offenders
_BINS = 40  # of the histogram of scores
_COLUMNS = (
  'path',
  'class',
  'score',
  'flagged',
  'kind',
  'recurs',
  'likeness',
  'place',
  'sensitivity',
  'noise_scale',
  'action',
  'output',
  'note',
)
_RATE_FAILS = (
  'These pictures are unlike those on which the false-positive rate was '
  'measured (noise, texture, size): {why}. Look at the flagged pictures before '
  'you use the output, and give clean pictures like these with --calibrate=DIR.'
)
_ONE_CLASS = (
  'Visible triggers were not looked for: a class is compared with others, and '
  'this folder has one. Give a folder that holds one folder for each person.'
)
_SPREAD = (
  'flags are spread over many classes, as no attack on one victim spreads them'
)
_SHIFTED = (
  'by the scores of most of them, {share} % of the clean ones are flagged'
)


class ClassCounts(NamedTuple):
  """What was found in a class.

  Attributes:
    name: its name, printable.
    files: the number of its files.
    judged: how many of them have a score.
    flagged: how many of these are flagged.
    flagged_closer: how many of these by a closer look alone.
    unjudged: how many could not be judged.
  """

  name: str
  files: int
  judged: int
  flagged: int
  flagged_closer: int
  unjudged: int


@dataclasses.dataclass
class Thing:
  """Something that recurs in a class.

  Attributes:
    class_name: the class, printable.
    number: of the thing, in its class.
    kind: 'pattern', 'place', 'shape' or 'overlay'.
    pictures: how many have it.
    judged: of how many of the class.
    shown: the first of them: path, and place.
  """

  class_name: str
  number: int
  kind: str
  pictures: int
  judged: int
  shown: list[tuple[str, list[float]]]


def _things(records: list[Record]) -> list[Thing]:
  """What recurs in the class of these records."""
  judged = sum(record.judged for record in records)
  found: dict[int, Thing] = {}
  for record in records:
    if record.recurs is None or record.place is None:
      continue
    kind = record.kind.split()[-1]
    new = Thing(record.class_name, record.recurs, kind, 0, judged, [])
    thing = found.setdefault(record.recurs, new)
    thing.pictures += 1
    if thing.pictures <= TWINS:
      thing.shown.append((record.path, record.place))
  return sorted(found.values(), key=lambda thing: -thing.pictures)


def things_of(found: dict[str, Any]) -> list[Thing]:
  """What recurs, as the `summary` has it."""
  return [
    Thing(**one | {'shown': [(path, at) for path, at in one['shown']]})
    for one in found['recurring']
  ]


class Findings:
  """Counts of what was found; its memory does not grow with the pictures.

  Args:
    csv_file: receives `scores.csv`.
  """

  def __init__(self, csv_file: io.TextIOBase):
    self._table = csv.writer(
      csv_file, lineterminator='\n', quoting=csv.QUOTE_ALL
    )
    self._table.writerow(_COLUMNS)
    self.actions: Counter[str] = Counter()
    self.unjudged: list[tuple[str, str]] = []
    self.classes: list[ClassCounts] = []
    self.histogram = np.zeros(_BINS, int)
    # The highest scores of perturbations: (score, path, output).
    self.worst: list[tuple[float, str, str]] = []
    self.things: list[Thing] = []

  def add(self, records: list[Record]) -> None:
    """Counts the records of one class."""
    self.things += _things(records)
    for record in records:
      self._table.writerow(_row(record))
      self.actions[record.action] += 1
      if record.action == NOT_JUDGED:
        self.unjudged.append((record.path, record.note))
      if record.score is None:
        continue
      place = min(int(record.score * _BINS), _BINS - 1)
      self.histogram[place] += 1
      if record.kind.startswith(PERTURBATION):
        item = (record.score, record.path, record.output)
        self.worst = heapq.nlargest(_WORST, [*self.worst, item])
    if records:
      self.classes.append(
        ClassCounts(
          records[0].class_name,
          len(records),
          sum(record.judged for record in records),
          sum(record.flagged for record in records),
          sum(record.flagged_closer for record in records),
          sum(record.action == NOT_JUDGED for record in records),
        )
      )

  @property
  def flagged(self) -> int:
    """How many pictures were flagged."""
    return sum(counts.flagged for counts in self.classes)


def _row(record: Record) -> tuple[Any, ...]:
  def number(value: float | None) -> str:
    return '' if value is None else repr(value)

  flagged = str(record.flagged).lower() if record.judged else ''
  place = ' '.join(f'{share:.4f}' for share in record.place or ())
  return (
    record.path,
    record.class_name,
    number(record.score),
    flagged,
    record.kind,
    number(record.recurs),
    number(record.likeness),
    place,
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
  verdict: FolderVerdict,
) -> dict[str, Any]:
  """What `summary.json` holds.

  Args:
    findings: the counts of all classes.
    settings: the settings of the run.
    fingerprint: of the input.
    verdict: what the scores say of classes, and of the rate.
  """
  suspects = _suspects(findings.classes, verdict)
  return {
    'settings': settings,
    'input_fingerprint': fingerprint,
    'files': sum(findings.actions.values()),
    'flagged': findings.flagged,
    'actions': dict(sorted(findings.actions.items())),
    'classes': len(findings.classes),
    'recurring': [dataclasses.asdict(thing) for thing in findings.things],
    'closer_threshold': verdict.closer,
    'highest_clean_rate': verdict.highest_clean_rate,
    'expected_rate': verdict.expected_rate,
    'suspicious_classes': suspects,
    'rate_holds': verdict.rate_holds,
    'flags_are_spread': verdict.flags_are_spread,
    'is_shifted': verdict.is_shifted,
    'look_first': _look_first(suspects, findings.things),
    'not_judged': [
      {'path': path, 'note': note} for path, note in findings.unjudged
    ],
  }


def _suspects(
  classes: Sequence[ClassCounts], verdict: FolderVerdict
) -> list[dict[str, Any]]:
  """The classes that stand out, the most suspicious one first."""
  found = [
    {
      'class': counts.name,
      'judged': counts.judged,
      'flagged': counts.flagged,
      'flagged_closer': counts.flagged_closer,
      'p_value': float(p_value),
    }
    for counts, p_value, is_named in zip(
      classes, verdict.p_values, verdict.named, strict=True
    )
    if is_named
  ]
  return sorted(found, key=lambda one: (one['p_value'], one['class']))


def _look_first(
  suspects: Sequence[dict[str, Any]], things: Sequence[Thing]
) -> list[str]:
  """The classes to look at: those that stand out, then those in which
  something recurs, where most pictures have it first."""
  names = [one['class'] for one in suspects]
  ordered = sorted(things, key=lambda thing: -thing.pictures)
  return list(dict.fromkeys(names + [thing.class_name for thing in ordered]))


def write(root: pathlib.Path, table: str, found: dict[str, Any]) -> None:
  """Writes `scores.csv` and `summary.json`.

  Args:
    root: the output folder.
    table: the text of the former.
    found: the `summary`.
  """
  files.write_text(root / 'scores.csv', table)
  files.write_json(root / 'summary.json', found)


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
  like_ours = summary(Findings(io.StringIO()), settings, fingerprint, NOTHING)
  if not isinstance(found, dict) or found.keys() != like_ours.keys():
    return None
  return found if asked.items() <= found.items() else None


def why_not_visible(found: dict[str, Any]) -> str:
  """Why visible triggers were not looked for, in one line; '' if they were, or
  if nobody asked for it.

  Args:
    found: the `summary`.
  """
  asked = VISIBLE in found['settings']['detectors']
  return _ONE_CLASS if asked and found['classes'] < 2 else ''


def why_rate_fails(found: dict[str, Any]) -> str:
  """Why the rate does not hold, in one line; '' if it may hold.

  Args:
    found: the `summary`.
  """
  if found['rate_holds'] is not False:
    return ''
  reasons = [_SPREAD] if found['flags_are_spread'] else []
  if found['is_shifted']:
    share = f'{100 * found["expected_rate"]:.2g}'
    reasons.append(_SHIFTED.format(share=share))
  return _RATE_FAILS.format(why='; '.join(reasons))
