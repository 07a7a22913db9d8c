"""What was found, for people to read: `report.html`."""

import pathlib
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from babam_jax import errors, invocation
from babam_jax.defenses.pirm import SHIPPED
from babam_jax.evaluation import figures, report
from babam_jax.evaluation.canvas import Figure
from babam_jax.sanitizer import class_verdict, picture
from babam_jax.sanitizer.findings import (
  Findings,
  Thing,
  why_not_visible,
  why_rate_fails,
)
from babam_jax.sanitizer.names import path_of, printable

_CLASSES_SHOWN = 100
_CLASS_HEADER = ('class', 'files', 'flagged', 'flagged %', 'not judged')
_SUSPECT_HEADER = ('class', 'judged', 'flagged', 'closer', 'p-value')
_SUSPECT_NOTE = (
  'Poison is made for one victim, whose class it fills. In these classes more '
  'pictures score high than chance explains. The p-value is the probability '
  'that a clean class has so many flags, if at most {rate} of clean pictures '
  'get one at once, or so high scores, if it is like the others (named below '
  f'{class_verdict.NAMED:g}, corrected for the number of classes). Pictures '
  'unlike all others of the folder, such as very noisy ones, can stand out, '
  'too: look at them.'
)
_CLOSER_NOTE = (
  ' A closer look has flagged more of them ("closer"): those that score above '
  '{threshold:.3g}, as hardly any picture of the other classes does. In a '
  'class that is honest, and merely unlike the others, these may be many.'
)
_PUBLIC = (
  'Judged by the PIRM {pirm!r}, which comes with babam_jax: whoever wants to '
  'evade it has its weights. Against attackers who may, make one of your own, '
  'and keep it: {command}'
)


_RECURS_HEADER = ('class', 'number', 'what recurs', 'pictures', 'of')
_RECURS_NOTE = (
  'In some pictures of a class there is the same thing, and in none of those '
  'of other classes that it was compared with: so are triggers that one can '
  'see. Or it is innocent: a logo, a watermark, a uniform. Look at the '
  'pictures: the box shows where it is. "pattern": anywhere; "place": at the '
  'same place; "shape": a box of one color; "overlay": all over the picture. '
  'If it is innocent, use the files of the input.'
)
_THINGS = 6  # shown
_NAMED = 3  # classes in the verdict
_CAPTIONS = {
  'scores': 'How many pictures have which score: those right of the dotted '
  'line are flagged, and in classes that stand out some left of it.',
  'worst': 'The flagged pictures with the highest scores. Poison looks '
  'untouched. Its finest texture, here eight times as strong, looks like noise '
  'all over, even where a picture is smooth.',
}
_TWINS = 'What recurs, in some of the pictures that have it: the box shows it.'
_STRONGER = 8  # times


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


def write(
  root: pathlib.Path,
  source: pathlib.Path,
  findings: Findings,
  found: dict[str, Any],
  surroundings: dict[str, Any],
) -> None:
  """Writes the page.

  Args:
    root: the output folder.
    source: the input folder.
    findings: the counts of all classes.
    found: the `summary` of the findings.
    surroundings: how to repeat the run, and what it ran on.
  """
  settings = found['settings']
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
      ('which', 'files'),
      [
        ('all', str(found['files'])),
        ('flagged', str(found['flagged'])),
        *((action, str(n)) for action, n in found['actions'].items()),
      ],
      drawn | _worst_pictures(root, source, findings),
      'The flagged pictures with the highest scores are shown as they were '
      'found and, where they were written, as written. All files are in '
      'scores.csv. ' + whose_pirm(settings),
      _CAPTIONS,
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
    verdict(found),
  )


def verdict(found: dict[str, Any]) -> str:
  """What all of it says, in a few sentences.

  Args:
    found: the `summary` of the findings.
  """
  others = len(found['not_judged']) + found['actions'].get('left out', 0)
  judged = found['files'] - others
  flagged = found['flagged']
  said = []
  if flagged:
    said.append(f'{flagged:,} of {judged:,} pictures look poisoned.')
  elif judged:
    said.append(f'None of {judged:,} pictures looks poisoned by itself.')
  names = found['look_first']
  if names:
    more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    found_in = 'Look first at' if flagged else 'But look, as a whole, at'
    said.append(f'{found_in} {", ".join(names[:_NAMED])}{more}.')
  elif flagged:
    said.append('They stand out in no class: a few flags may be false.')
  if why_not_visible(found):
    said.append('Visible triggers were not looked for.')
  if found['rate_holds'] is False:
    said.append('The stated rate of false flags does not hold here.')
  if found['not_judged']:
    count = len(found['not_judged'])
    files = 'file' if count == 1 else 'files'
    said.append(f'{count:,} {files} could not be judged.')
  return ' '.join(said)


def _class_sections(found: dict[str, Any]) -> list[report.Section]:
  """What is said of classes before all else: that some hold poison, or that
  the rate does not hold."""
  suspects, sections = found['suspicious_classes'], []
  if why := why_not_visible(found):
    title = 'Visible triggers were not looked for'
    sections.append(report.Section(title, (), [], {}, why))
  if why := why_rate_fails(found):
    sections.append(report.Section('The rate does not hold', (), [], {}, why))
  if suspects:
    lines = [
      (
        one['class'],
        str(one['judged']),
        str(one['flagged']),
        str(one['flagged_closer']),
        f'{one["p_value"]:.1e}',
      )
      for one in suspects[:_CLASSES_SHOWN]
    ]
    rate = f'{100 * found["highest_clean_rate"]:.2g} %'
    note = _SUSPECT_NOTE.format(rate=rate)
    if found['closer_threshold'] is not None:
      note += _CLOSER_NOTE.format(threshold=found['closer_threshold'])
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
  captions = {'twins': _TWINS}
  return report.Section(
    title, _RECURS_HEADER, lines, drawn, _RECURS_NOTE, captions
  )


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
    after = _read_again(root / path_of(output)) if output else None
    shown.append((f'{score:.3f} {path}', before, _texture(before), after))
  return {'worst': figures.worst_offenders(shown)} if shown else {}


def _texture(
  pixels: UInt8[np.ndarray, 'h w 3'],
) -> UInt8[np.ndarray, 'h w 3']:
  """What the median of its neighbors leaves of each pixel, made stronger."""
  rest = pixels.astype(np.int16) - cv2.medianBlur(pixels, 3)
  return np.clip(128 + _STRONGER * rest, 0, 255).astype(np.uint8)


def _read_again(path: pathlib.Path) -> UInt8[np.ndarray, 'h w 3']:
  try:
    return picture.read(path).pixels
  except picture.UnjudgedError as error:
    raise errors.UserError(
      f'{path}: has changed since it was judged ({error}); expected folders '
      'that stay. Give the command again.'
    ) from None
