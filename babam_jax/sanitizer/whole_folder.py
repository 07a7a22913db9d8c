"""An untrusted folder, sanitized by one call."""

import io
import math
import os
import pathlib
from typing import NamedTuple

from babam_jax import errors
from babam_jax.defenses import calibration
from babam_jax.defenses import pirm as pirms
from babam_jax.experiment import environment
from babam_jax.sanitizer import report, sanitize
from babam_jax.sanitizer.output import REPORTS, Output

Path = str | os.PathLike[str]


class SanitizedFolder(NamedTuple):
  """What came of a folder.

  Attributes:
    files: how many it holds.
    flagged: how many of them are taken for poison.
    unjudged: those that could not be judged and so are not in the output: path
      below the input, and why.
    threshold: a picture with a higher probability of poison was flagged.
    fpr: the rate that the threshold follows from; None if it was said, or if
      the PIRM knows no rates.
    scores: `scores.csv`: a line for each file.
    summary: `summary.json`: settings and counts.
    report: `report.html`: what was found, to be looked at.
  """

  files: int
  flagged: int
  unjudged: list[tuple[str, str]]
  threshold: float
  fpr: float | None
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
  epsilon: float = 0.01,
  link: bool = False,
  seed: int = 0,
  repeat: str = '',
) -> SanitizedFolder:
  """Makes a folder that can be trained on from one that nobody should trust.

  Every picture is scored by a PIRM; what it flags is replaced by a PNG with
  Algorithm 1's noise, the rest is copied byte for byte. The input is never
  changed. Killed and called again, it continues.

  Args:
    input: a folder of class folders, of any depth.
    output: a new or empty folder, apart from the input.
    pirm: 'general', 'shipped' or 'hardened', or a file.
    action: for flagged pictures: 'perturb'; 'drop', which leaves them out; or
      'report', which writes no pictures at all.
    threshold: pictures with a higher probability of poison are flagged.
    fpr: in its place, the share of clean pictures, of those held out when the
      PIRM was trained, that may be flagged. Without either it is 0.01, or the
      threshold is 0.5 where the PIRM knows no such rates.
    epsilon: the noise budget; a lower one gives more noise.
    link: hard links instead of copies of what is not flagged.
    seed: of the noise.
    repeat: what the report says of how to do this again; '': this call.

  Raises:
    UserError: one of these is not as said; the message names it as the command
      does: `--fpr` is `fpr`.
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
  chosen = calibration.choose_threshold(model.calibration, threshold, fpr)
  settings = sanitize.Settings(action, chosen.value, epsilon, link, seed)
  told = settings._asdict() | {
    'fpr': chosen.fpr,
    'input': sanitize.printable(str(source.resolve())),
    'pirm_sha256': pirms.fingerprint(checkpoint),
  }
  being_made = Output(source, root, told)
  table = io.StringIO(newline='')
  findings = report.Findings(table)
  for records in sanitize.run(source, being_made, model, settings):
    findings.add(records)
  call = f'babam_jax.sanitize_folder({str(input)!r}, {str(output)!r})'
  surroundings = environment.describe(repeat or call)
  report.write(root, source, findings, table.getvalue(), told, surroundings)
  being_made.close()
  return SanitizedFolder(
    sum(findings.actions.values()),
    findings.flagged,
    findings.unjudged,
    chosen.value,
    chosen.fpr,
    *(root / name for name in REPORTS),
  )


def _check(action: str, epsilon: float, seed: int) -> None:
  if action not in sanitize.ACTIONS:
    raise errors.UserError(
      f'--action: found {action!r}, expected one of '
      f'{", ".join(sanitize.ACTIONS)}.'
    )
  if not (math.isfinite(epsilon) and epsilon > 0):
    raise errors.UserError(
      f'--epsilon: found {epsilon}, expected a finite number above 0.'
    )
  if seed < 0:
    raise errors.UserError(f'--seed: found {seed}, expected 0 or more.')
