"""Sanitizes an untrusted folder with one call."""

import io
import os
import pathlib
from typing import Any, NamedTuple

from babam_jax import errors
from babam_jax.defenses import calibration, noise
from babam_jax.defenses import pirm as pirms
from babam_jax.experiment import environment
from babam_jax.progress import say
from babam_jax.sanitizer import class_verdict, folder, report, sanitize
from babam_jax.sanitizer import output as output_folder
from babam_jax.sanitizer import trusted as trusted_pictures
from babam_jax.sanitizer.names import printable
from babam_jax.settings import WHOLE_LIMIT

Path = str | os.PathLike[str]


class SanitizedFolder(NamedTuple):
  """The results for a folder.

  Attributes:
    files: the number of files in it.
    flagged: the number of files taken for poison.
    unjudged: files that could not be judged and so are not in the output: path
      below the input, and why.
    threshold: pictures with a higher probability of poison were flagged.
    fpr: the false-positive rate that the threshold follows from; None if the
      threshold was given, or the PIRM has no scores of clean pictures.
    rate_holds: False if the scores of most pictures, or flags that are spread
      over the classes, say that the rate is not that of these pictures; None if
      none is known.
    why_rate_fails: why not, in one line; or ''.
    suspicious_classes: those in which more pictures are flagged than chance
      explains, the most suspicious one first.
    scores: `scores.csv`: a line for each file.
    summary: `summary.json`: settings and counts.
    report: `report.html`: what was found, for people to read.
  """

  files: int
  flagged: int
  unjudged: list[tuple[str, str]]
  threshold: float
  fpr: float | None
  rate_holds: bool | None
  why_rate_fails: str
  suspicious_classes: list[str]
  scores: pathlib.Path
  summary: pathlib.Path
  report: pathlib.Path


def sanitize_folder(
  input: Path,
  output: Path,
  *,
  pirm: Path = 'general',
  action: str = 'perturb',
  threshold: float | None = None,
  fpr: float | None = None,
  calibrate: Path | None = None,
  epsilon: float = 0.01,
  link: bool = False,
  seed: int = 0,
  repeat: str = '',
) -> SanitizedFolder:
  """Makes a folder that can be trained on from one that nobody should trust.

  Every picture is scored by a PIRM; flagged ones are replaced by a PNG with
  Algorithm 1's noise, the rest is copied byte for byte. The input is never
  changed. After a kill, the same call continues; once all is done, it finds
  that.

  Args:
    input: a folder of class folders, of any depth.
    output: a new or empty folder, apart from the input.
    pirm: 'general', 'shipped' or 'hardened', or a file.
    action: what happens to flagged pictures: 'perturb'; 'drop', which leaves
      them out; or 'report', which writes no pictures at all.
    threshold: pictures with a higher probability of poison are flagged.
    fpr: instead of a threshold, the share that may be flagged of the clean
      pictures held out when the PIRM was trained. By default it is 0.01; for a
      PIRM without their scores the threshold is 0.5.
    calibrate: a folder of clean pictures like those of the input, at any depth;
      the rate is measured of them instead.
    epsilon: the noise budget; a lower one gives more noise.
    link: make hard links instead of copies of files that are not flagged.
    seed: the seed of the noise.
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
  _check(action, epsilon, seed)
  checkpoint = pirms.path_of(os.fspath(pirm))
  model = pirms.load(checkpoint, '--pirm')
  trusted = None
  if calibrate is not None:
    trusted = trusted_pictures.score(pathlib.Path(calibrate), model)
    known = model.calibration._replace(clean=trusted.scores)
    model = model._replace(calibration=known)
  chosen = calibration.choose_threshold(model.calibration, threshold, fpr)
  settings = sanitize.Settings(action, chosen.value, epsilon, link, seed)
  told = settings._asdict() | {
    'fpr': chosen.fpr,
    'input': printable(str(source.resolve())),
    'pirm': printable(os.fspath(pirm)),
    'pirm_sha256': pirms.fingerprint(checkpoint),
    'calibrated_on': trusted.fingerprint if trusted else None,
  }
  inventory = folder.inventory(source)
  if not inventory.files:
    raise errors.UserError(
      f'--input: no file in {source}; expected a folder of class folders with '
      'pictures. Choose another one.'
    )
  fingerprint = inventory.fingerprint()
  finished = report.earlier_summary(root, told, fingerprint)
  if finished is None:
    try:
      being_made = output_folder.Output(source, root, told)
    except errors.UserError:
      # The same command, given twice, may have ended meanwhile.
      finished = report.earlier_summary(root, told, fingerprint)
      if finished is None:
        raise
  if finished is not None:
    say(f'{root}: is finished, by the same command')
    output_folder.remove_rest(root)
    return _result(root, finished)
  table = io.StringIO(newline='')
  clean = model.calibration.clean
  levels = class_verdict.levels(chosen.value, clean)
  findings = report.Findings(table, levels)
  for records in sanitize.run(source, inventory, being_made, model, settings):
    findings.add(records)
  call = f'babam_jax.sanitize_folder({str(input)!r}, {str(output)!r})'
  surroundings = environment.describe(printable(repeat or call))
  expected = findings.scores.expected_share(chosen.value, clean)
  rates = report.Rates(levels, expected)
  found = report.summary(findings, told, fingerprint, rates)
  report.write(root, source, findings, table.getvalue(), found, surroundings)
  being_made.close()
  return _result(root, found)


def _result(root: pathlib.Path, found: dict[str, Any]) -> SanitizedFolder:
  """The results, from what `summary.json` holds."""
  return SanitizedFolder(
    found['files'],
    found['flagged'],
    [(one['path'], one['note']) for one in found['not_judged']],
    found['settings']['threshold'],
    found['settings']['fpr'],
    found['rate_holds'],
    report.why_rate_fails(found),
    [one['class'] for one in found['suspicious_classes']],
    *(root / name for name in output_folder.REPORTS),
  )


def _check(action: str, epsilon: float, seed: int) -> None:
  if action not in sanitize.ACTIONS:
    raise errors.UserError(
      f'--action: found {action!r}, expected one of '
      f'{", ".join(sanitize.ACTIONS)}.'
    )
  noise.check_epsilon(epsilon, '--epsilon')
  if not 0 <= seed < WHOLE_LIMIT:
    raise errors.UserError(
      f'--seed: found {seed}, expected 0 or more, below {WHOLE_LIMIT}.'
    )
