"""Sanitizes an untrusted folder with one call."""

import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from babam_jax import errors
from babam_jax.defenses import by_kind, calibration, noise
from babam_jax.defenses import pirm as pirms
from babam_jax.experiment import environment
from babam_jax.progress import say
from babam_jax.sanitizer import (
  bulk,
  class_verdict,
  findings,
  folder,
  one_class,
  report,
  sanitize,
)
from babam_jax.sanitizer import output as output_folder
from babam_jax.sanitizer import trusted as trusted_pictures
from babam_jax.sanitizer.names import printable
from babam_jax.settings import WHOLE_LIMIT

Path = str | os.PathLike[str]
_OF_PIRM = ('pirm', 'pirm_sha256', 'calibrated_on')


class SanitizedFolder(NamedTuple):
  """The results for a folder.

  Attributes:
    files: the number of files in it.
    flagged: the number of files taken for poison.
    unjudged: files that could not be judged and so are not in the output: path
      below the input, and why.
    threshold: pictures with a higher probability of poison were flagged; None
      if no PIRM was asked.
    fpr: the false-positive rate that the threshold follows from; None if the
      threshold was given, or the PIRM has no scores of clean pictures.
    rate_holds: False if the scores of most pictures, or flags that are spread
      over the classes, say that the rate is not that of these pictures; None if
      none is known.
    why_rate_fails: why not, in one line; or ''.
    suspicious_classes: those in which more pictures are flagged than chance
      explains, the most suspicious one first.
    recurring: what recurs in a part of one class and in no other.
    scores: `scores.csv`: a line for each file.
    summary: `summary.json`: settings and counts.
    report: `report.html`: what was found, for people to read.
  """

  files: int
  flagged: int
  unjudged: list[tuple[str, str]]
  threshold: float | None
  fpr: float | None
  rate_holds: bool | None
  why_rate_fails: str
  suspicious_classes: list[str]
  recurring: list[findings.Thing]
  scores: pathlib.Path
  summary: pathlib.Path
  report: pathlib.Path


DEFAULT_EPSILON = 0.01


def sanitize_folder(
  input: Path,
  output: Path,
  *,
  detectors: Sequence[str] = sanitize.DETECTORS,
  pirm: Path = 'general',
  action: str = 'drop',
  visible: str = by_kind.DROP,
  threshold: float | None = None,
  fpr: float | None = None,
  calibrate: Path | None = None,
  epsilon: float = DEFAULT_EPSILON,
  link: bool = False,
  seed: int = 0,
  repeat: str = '',
) -> SanitizedFolder:
  """Makes a folder that can be trained on from one that nobody should trust.

  Every picture is scored by a PIRM; flagged ones are left out, or replaced by
  a PNG with Algorithm 1's noise, the rest is copied byte for byte. The input is
  never changed. After a kill, the same call continues; once all is done, it
  finds that.

  Args:
    input: a folder of class folders, of any depth.
    output: a new or empty folder, apart from the input.
    detectors: what is looked for: 'perturbation', which a PIRM finds, and
      'visible', triggers that recur in a part of one class.
    pirm: 'general', 'shipped' or 'hardened', or a file.
    action: what happens to flagged pictures: 'drop', which leaves them out;
      'perturb', Algorithm 1's noise, which keeps a picture in every place and
      leaves more of the attack; or 'report', which writes no pictures at all.
    visible: what 'perturb' does with pictures that have a visible trigger:
      'drop'; 'noise', as for all others; 'local_noise', where the trigger is;
      or 'inpaint', which paints over that place.
    threshold: pictures with a higher probability of poison are flagged.
    fpr: instead of a threshold, the share that may be flagged of the clean
      pictures held out when the PIRM was trained. By default it is 0.01; for a
      PIRM without their scores the threshold is 0.5.
    calibrate: a folder of clean pictures like those of the input, at any depth;
      the rate is measured of them instead.
    epsilon: the noise budget of 'perturb'; a lower one gives more noise.
    link: make hard links instead of copies of files that are not flagged.
    seed: the seed of the noise of 'perturb'.
    repeat: how to do this again, for the report; '': by this call.

  Raises:
    UserError: an argument is invalid; the message names it like the command's
      flag: `--fpr` for `fpr`.
    OSError: the output cannot be written.
  """
  source, root = pathlib.Path(input), pathlib.Path(output)
  if not source.is_dir():
    raise errors.UserError(
      f'--input: no folder {str(source)!r}; expected a folder of class folders.'
    )
  detectors = _check_detectors(detectors, threshold, fpr, calibrate)
  _check(action, visible, epsilon, seed)
  if output_folder.PERTURBATION in detectors:
    judge = _judge(pirm, threshold, fpr, calibrate)
  else:
    judge = _Judge(None, None, {'fpr': None} | dict.fromkeys(_OF_PIRM))
  settings = one_class.Settings(
    action, visible, judge.threshold, epsilon, link, seed
  )
  told = settings._asdict() | judge.told
  told['detectors'] = list(detectors)
  told['input'] = printable(str(source.resolve()))
  inventory = folder.inventory(source)
  if not inventory.files:
    raise errors.UserError(
      f'--input: no file in {source}; expected a folder of class folders with '
      'pictures. Choose another one.'
    )
  fingerprint = inventory.fingerprint()
  finished = findings.earlier_summary(root, told, fingerprint)
  if finished is None:
    try:
      being_made = output_folder.Output(source, root, told)
    except errors.UserError:
      # The same command, given twice, may have ended meanwhile.
      finished = findings.earlier_summary(root, told, fingerprint)
      if finished is None:
        raise
  if finished is not None:
    say(f'{root}: is finished, by the same command')
    output_folder.remove_rest(root)
    return _result(root, finished)
  table = io.StringIO(newline='')
  levels = judge.levels
  counted = findings.Findings(table, levels)
  for records in sanitize.run(
    source, inventory, being_made, judge.model, settings, detectors
  ):
    counted.add(records)
  call = f'babam_jax.sanitize_folder({str(input)!r}, {str(output)!r})'
  surroundings = environment.describe(printable(repeat or call))
  rates = findings.Rates(levels, judge.expected_share(counted.scores))
  found = findings.summary(counted, told, fingerprint, rates)
  findings.write(root, table.getvalue(), found)
  report.write(root, source, counted, found, surroundings)
  being_made.close()
  return _result(root, found)


class _Judge(NamedTuple):
  """What scores pictures.

  Attributes:
    model: the PIRM; None without one.
    threshold: higher scores are flagged; None without a PIRM.
    told: what the settings say of it.
  """

  model: pirms.Pirm | None
  threshold: float | None
  told: dict[str, Any]

  @property
  def levels(self) -> list[class_verdict.Level]:
    """The thresholds at which classes are counted."""
    if self.model is None or self.threshold is None:
      return []
    return class_verdict.levels(self.threshold, self.model.calibration.clean)

  def expected_share(self, scores: bulk.Scores) -> float | None:
    """The share of clean pictures like most of a folder that are flagged."""
    if self.model is None or self.threshold is None:
      return None
    clean = self.model.calibration.clean
    return scores.expected_share(self.threshold, clean)


def _judge(
  pirm: Path,
  threshold: float | None,
  fpr: float | None,
  calibrate: Path | None,
) -> _Judge:
  """A PIRM with its threshold."""
  checkpoint = pirms.path_of(os.fspath(pirm))
  model = pirms.load(checkpoint, '--pirm')
  trusted = None
  if calibrate is not None:
    trusted = trusted_pictures.score(pathlib.Path(calibrate), model)
    known = model.calibration._replace(clean=trusted.scores)
    model = model._replace(calibration=known)
  chosen = calibration.choose_threshold(model.calibration, threshold, fpr)
  of_pirm = (
    printable(os.fspath(pirm)),
    pirms.fingerprint(checkpoint),
    trusted.fingerprint if trusted else None,
  )
  told = {'fpr': chosen.fpr} | dict(zip(_OF_PIRM, of_pirm, strict=True))
  return _Judge(model, chosen.value, told)


def _check_detectors(
  detectors: Sequence[str],
  threshold: float | None,
  fpr: float | None,
  calibrate: Path | None,
) -> tuple[str, ...]:
  """The detectors, in one order, each once."""
  known = ', '.join(sanitize.DETECTORS)
  for name in detectors:
    if name not in sanitize.DETECTORS:
      raise errors.UserError(
        f'--detectors: found {name!r}, expected one or more of {known}.'
      )
  if not detectors:
    raise errors.UserError(
      f'--detectors: is empty; expected one or more of {known}.'
    )
  given = {'threshold': threshold, 'fpr': fpr, 'calibrate': calibrate}
  for name, value in given.items():
    if value is not None and output_folder.PERTURBATION not in detectors:
      raise errors.UserError(
        f'--{name}: found {value} without the detector '
        f'{output_folder.PERTURBATION!r}, whose it is; expected it among '
        f'--detectors. Leave out --{name}, or add it.'
      )
  return tuple(name for name in sanitize.DETECTORS if name in detectors)


def _result(root: pathlib.Path, found: dict[str, Any]) -> SanitizedFolder:
  """The results, from what `summary.json` holds."""
  return SanitizedFolder(
    found['files'],
    found['flagged'],
    [(one['path'], one['note']) for one in found['not_judged']],
    found['settings']['threshold'],
    found['settings']['fpr'],
    found['rate_holds'],
    findings.why_rate_fails(found),
    [one['class'] for one in found['suspicious_classes']],
    findings.things_of(found),
    *(root / name for name in output_folder.REPORTS),
  )


def _check(action: str, visible: str, epsilon: float, seed: int) -> None:
  if action not in sanitize.ACTIONS:
    raise errors.UserError(
      f'--action: found {action!r}, expected one of '
      f'{", ".join(sanitize.ACTIONS)}.'
    )
  if visible not in sanitize.VISIBLE_ACTIONS:
    raise errors.UserError(
      f'--visible: found {visible!r}, expected one of '
      f'{", ".join(sanitize.VISIBLE_ACTIONS)}.'
    )
  if visible != by_kind.DROP and action != 'perturb':
    raise errors.UserError(
      f'--visible: found {visible!r} with --action={action!r}, expected '
      f'{by_kind.DROP!r}, as it is for pictures that are kept. Add '
      '--action=perturb.'
    )
  noise.check_epsilon(epsilon, '--epsilon')
  if epsilon != DEFAULT_EPSILON and action != 'perturb':
    raise errors.UserError(
      f'--epsilon: found {epsilon:g} with --action={action!r}, expected none, '
      'as no picture gets noise. Add --action=perturb.'
    )
  if not 0 <= seed < WHOLE_LIMIT:
    raise errors.UserError(
      f'--seed: found {seed}, expected 0 or more, below {WHOLE_LIMIT}.'
    )
