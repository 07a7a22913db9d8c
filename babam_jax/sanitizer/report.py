"""What was found, as `scores.csv`, `summary.json` and `report.html`."""

import csv
import dataclasses
import heapq
import io
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from babam_jax import errors, files, invocation
from babam_jax.defenses.pirm import SHIPPED
from babam_jax.evaluation import figures, report
from babam_jax.sanitizer import bulk, class_verdict, picture
from babam_jax.sanitizer.names import path_of, printable
from babam_jax.sanitizer.output import (
  NOT_JUDGED,
  PERTURBATION,
  Record,
  is_complete,
)

_SHOWN = 8  # the worst offenders
_CLASSES_SHOWN = 100
_BINS = 40
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
_CLASS_HEADER = ('class', 'files', 'flagged', 'flagged %', 'not judged')
_SUSPECT_HEADER = ('class', 'judged', 'flagged', 'p-value')
_SUSPECT_NOTE = (
  'Poison is made for one victim, whose class it fills. In these classes more '
  'pictures score high than chance explains, if at most {rate} of clean '
  'pictures are flagged: the p-value is the probability of so many in a clean '
  f'class (named below {class_verdict.NAMED:g}, corrected for the number of '
  'classes). Lower thresholds than that of the flags count, too: faint poison '
  'may have no flag, but score higher than most clean pictures. Pictures '
  'unlike those on which the rate was measured, such as very noisy ones, can '
  'do the same: look at them.'
)
_PUBLIC = (
  'Judged by the PIRM {pirm!r}, which comes with babam_jax: whoever wants to '
  'evade it has its weights. Against attackers who may, make one of your own, '
  'and keep it: {command}'
)
_RATE_FAILS = (
  'These pictures are unlike those on which the false-positive rate was '
  'measured (noise, texture, size): {why}. Look at the flagged pictures before '
  'you use the output, and give clean pictures like these with --calibrate=DIR.'
)
_SPREAD = (
  'flags are spread over many classes, as no attack on one victim spreads them'
)
_SHIFTED = (
  'by the scores of most of them, {share} % of the clean ones are flagged'
)
# Above so many times the rate, the bulk of a folder says that it does not hold.
_TOLERATED = 3


_RECURS_HEADER = ('class', 'number', 'what recurs', 'pictures', 'of')
_RECURS_NOTE = (
  'In some pictures of a class there is the same thing, and in none of those '
  'of other classes that it was compared with: so are triggers that one can '
  'see. Or it is innocent: a logo, a watermark, a uniform. Look at the '
  'pictures: the box shows where it is. "pattern": anywhere; "place": at the '
  'same place; "shape": a box of one color; "overlay": all over the picture. '
  'If it is innocent, use the files of the input.'
)
_TWINS, _THINGS = 6, 6  # pictures shown of a thing; things shown


class Rates(NamedTuple):
  """What is known of the share of clean pictures that are flagged.

  Attributes:
    levels: at most, of those on which it was measured, and at lower
      thresholds; none if nothing is known of it, and so of classes.
    expected: of pictures like most of the folder; None if nothing tells.
  """

  levels: list[class_verdict.Level]
  expected: float | None

  @property
  def highest(self) -> float | None:
    """The share of clean pictures that are flagged, at most."""
    return self.levels[0].rate if self.levels else None


def whose_pirm(settings: dict[str, Any]) -> str:
  """Which PIRM has judged, in one line; '' if none has.

  Args:
    settings: those of the run.
  """
  name = settings['pirm']
  if name is None:
    return ''
  if name not in SHIPPED:
    return f'Judged by the PIRM {name!r}.'
  command = f'{invocation.line("pirm")} personalize --root=PHOTOS'
  return _PUBLIC.format(pirm=name, command=command)


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


class ClassCounts(NamedTuple):
  """What was found in a class.

  Attributes:
    name: its name, printable.
    files: the number of its files.
    judged: how many of them have a score.
    flagged: how many of these are flagged.
    unjudged: how many could not be judged.
    above: how many score above each level of the rates.
  """

  name: str
  files: int
  judged: int
  flagged: int
  unjudged: int
  above: tuple[int, ...]


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
    if thing.pictures <= _TWINS:
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
    levels: at which the pictures of each class are counted.
  """

  def __init__(
    self, csv_file: io.TextIOBase, levels: Sequence[class_verdict.Level] = ()
  ):
    self._levels = levels
    self._table = csv.writer(
      csv_file, lineterminator='\n', quoting=csv.QUOTE_ALL
    )
    self._table.writerow(_COLUMNS)
    self.actions: Counter[str] = Counter()
    self.unjudged: list[tuple[str, str]] = []
    self.classes: list[ClassCounts] = []
    self.histogram = np.zeros(_BINS, int)
    self.scores = bulk.Scores()
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
      self.scores.add(record.score)
      if record.kind.startswith(PERTURBATION):
        item = (record.score, record.path, record.output)
        self.worst = heapq.nlargest(_SHOWN, [*self.worst, item])
    if records:
      self.classes.append(
        ClassCounts(
          records[0].class_name,
          len(records),
          sum(record.judged for record in records),
          sum(record.flagged for record in records),
          sum(record.action == NOT_JUDGED for record in records),
          tuple(
            sum((record.score or 0) > level.threshold for record in records)
            for level in self._levels
          ),
        )
      )

  @property
  def flagged(self) -> int:
    """How many pictures were flagged."""
    return sum(counts.flagged for counts in self.classes)

  def verdicts(self, rates: Rates) -> dict[str, Any]:
    """What the flags say of classes, and of the rate itself.

    Args:
      rates: what is known of it.
    """
    if rates.highest is None:
      return dict.fromkeys(
        ('rate_holds', 'flags_are_spread', 'is_shifted'),
      ) | {'suspicious_classes': []}
    shifted = (rates.expected or 0) > _TOLERATED * rates.highest
    verdicts = class_verdict.judge(
      np.array([counts.above for counts in self.classes]),
      np.array([counts.judged for counts in self.classes]),
      rates.levels,
      doubted=shifted,
    )
    spread = not verdicts.rate_holds
    are_named = class_verdict.named(verdicts.p_values)
    p_values = verdicts.p_values.tolist()
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
      'rate_holds': not (spread or shifted),
      'flags_are_spread': spread,
      'is_shifted': shifted,
    }


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
  rates: Rates,
) -> dict[str, Any]:
  """What `summary.json` holds.

  Args:
    findings: the counts of all classes.
    settings: the settings of the run.
    fingerprint: of the input.
    rates: what is known of the share of clean pictures that are flagged.
  """
  return {
    'settings': settings,
    'input_fingerprint': fingerprint,
    'files': sum(findings.actions.values()),
    'flagged': findings.flagged,
    'actions': dict(sorted(findings.actions.items())),
    'classes': len(findings.classes),
    'recurring': [dataclasses.asdict(thing) for thing in findings.things],
    'highest_clean_rate': rates.highest,
    'expected_rate': rates.expected,
    **findings.verdicts(rates),
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
  like_ours = summary(
    Findings(io.StringIO()), settings, fingerprint, Rates([], None)
  )
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
  drawn = {}
  if settings['threshold'] is not None:
    drawn['scores'] = figures.score_histogram(
      findings.histogram, settings['threshold']
    )
  sections = _class_sections(found)
  if findings.things:
    sections.append(_recurring_section(source, findings.things))
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
      'found and as they were written. All files are in scores.csv. '
      + whose_pirm(settings),
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
  if why := why_rate_fails(found):
    sections.append(report.Section('The rate does not hold', (), [], {}, why))
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


def _recurring_section(
  source: pathlib.Path, things: list[Thing]
) -> report.Section:
  """What recurs, with its twins side by side."""
  ordered = sorted(things, key=lambda thing: -thing.pictures)
  lines = [
    (
      thing.class_name,
      str(thing.number),
      thing.kind,
      str(thing.pictures),
      str(thing.judged),
    )
    for thing in ordered[:_CLASSES_SHOWN]
  ]
  rows = [
    (
      f'{thing.class_name}, {thing.number}: {thing.kind}',
      [(_read_again(source / path_of(path)), at) for path, at in thing.shown],
    )
    for thing in ordered[:_THINGS]
  ]
  drawn = {'twins': figures.twins(rows)}
  title = 'What recurs in one class alone'
  return report.Section(title, _RECURS_HEADER, lines, drawn, _RECURS_NOTE)


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
    before = _read_again(source / path_of(path))
    after = _read_again(root / path_of(output)) if output else before
    shown.append((f'{score:.3f} {path}', before, after))
  return {'worst': figures.worst_offenders(shown)} if shown else {}


def _read_again(path: pathlib.Path) -> UInt8[np.ndarray, 'h w 3']:
  try:
    return picture.read(path).pixels
  except picture.UnjudgedError as error:
    raise errors.UserError(
      f'{path}: has changed since it was judged ({error}); expected folders '
      'that stay. Give the command again.'
    ) from None
