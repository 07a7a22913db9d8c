"""Sanitizes an untrusted folder of pictures, without any training.

  python -m launch.sanitize --input=enrolments/ --output=clean/

The input holds one folder per class. Every picture is scored by the PIRM that
comes with the project; what it flags is replaced by a PNG with Algorithm 1's
noise (or dropped, or only reported), the rest is copied byte for byte. The
input is never changed. Killed and started again, it continues.

Exit status: 0 all files judged; 2 a mistake, told in one line; 3 some files
could not be judged: they are in `scores.csv`, and not in the output.
"""

import io
import math
import pathlib
import shlex
import sys
from collections.abc import Sequence

from absl import flags

from babam_jax import errors
from babam_jax.cli import command
from babam_jax.defenses import calibration, pirm
from babam_jax.experiment import environment
from babam_jax.sanitizer import report, sanitize
from babam_jax.sanitizer.output import Output
from babam_jax.training import parallel

_DEFAULT_FPR = 0.01
_UNCALIBRATED = 0.5  # the threshold of a PIRM without stored clean scores
_INPUT = flags.DEFINE_string('input', None, 'A folder of class folders.')
_OUTPUT = flags.DEFINE_string('output', None, 'A new or empty folder.')
_PIRM = flags.DEFINE_string(
  'pirm',
  'general',
  "A file that launch.pirm wrote; 'general' comes with the project, 'shipped' "
  'too: it knows one kind of poison.',
)
_ACTION = flags.DEFINE_enum(
  'action', 'perturb', sanitize.ACTIONS, 'What happens to flagged pictures.'
)
_THRESHOLD = flags.DEFINE_float(
  'threshold', None, 'Higher probabilities of poison are flagged.', 0, 1
)
_FPR = flags.DEFINE_float(
  'fpr',
  None,
  'In place of a threshold: the share of clean pictures, of those held out '
  f'when the PIRM was trained, that may be flagged. Default: {_DEFAULT_FPR}.',
  0,
  1,
)
_DEVICES = flags.DEFINE_integer(
  'devices',
  None,
  'How many GPUs to use, or how many parts a CPU is treated as; default: all '
  'GPUs, or the CPU as one.',
  1,
)
_EPSILON = flags.DEFINE_float(
  'epsilon', 0.01, 'The noise budget; a lower one gives more noise.', 1e-9
)
_LINK = flags.DEFINE_bool(
  'link', False, 'Hard links instead of copies of what is not flagged.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the noise.', 0)
_EXIT_UNJUDGED = 3


def _folder(flag: flags.FlagHolder, expected: str) -> pathlib.Path:
  if not flag.value:
    raise errors.UserError(
      f'--{flag.name}: is missing; expected {expected}. Give one with '
      f'--{flag.name}=DIR.'
    )
  return pathlib.Path(flag.value)


def _check_numbers() -> None:
  for flag in (_THRESHOLD, _FPR, _EPSILON):
    if flag.value is not None and not math.isfinite(flag.value):
      raise errors.UserError(
        f'--{flag.name}: found {flag.value}, expected a finite number.'
      )
  if None not in (_THRESHOLD.value, _FPR.value):
    raise errors.UserError(
      '--fpr: found beside --threshold; expected one of them. Leave one out.'
    )


def _fpr(model: pirm.Pirm) -> float | None:
  """The rate that sets the threshold; None if none does."""
  if _THRESHOLD.value is not None:
    return None
  if _FPR.value is None and not len(model.calibration.clean):
    return None
  return _DEFAULT_FPR if _FPR.value is None else _FPR.value


def _settings(model: pirm.Pirm) -> sanitize.Settings:
  fpr, threshold = _fpr(model), _THRESHOLD.value
  if fpr is not None:
    threshold = calibration.threshold(model.calibration, fpr)
  elif threshold is None:
    threshold = _UNCALIBRATED
    print(
      f'This PIRM knows no false-positive rates: --threshold={threshold}',
      file=sys.stderr,
    )
  return sanitize.Settings(
    _ACTION.value, threshold, _EPSILON.value, _LINK.value, _SEED.value
  )


def main(arguments: Sequence[str]) -> None:
  """Scores, perturbs, reports."""
  if arguments:
    raise errors.UserError(
      f'command line: unexpected {arguments[0]!r}; expected --flag=value only.'
    )
  source = _folder(_INPUT, 'a folder of class folders')
  root = _folder(_OUTPUT, 'a new or empty folder')
  if not source.is_dir():
    raise errors.UserError(
      f'--input: no folder {str(source)!r}; expected a folder of class folders.'
    )
  _check_numbers()
  if _DEVICES.value is not None:
    parallel.use_devices(_DEVICES.value, '--devices')
  checkpoint = pirm.SHIPPED.get(_PIRM.value, pathlib.Path(_PIRM.value))
  model = pirm.load(checkpoint, '--pirm')
  settings = _settings(model)
  told = settings._asdict() | {
    'fpr': _fpr(model),
    'input': sanitize.printable(str(source.resolve())),
    'pirm_sha256': pirm.fingerprint(checkpoint),
  }
  output = Output(source, root, told)
  table = io.StringIO(newline='')
  findings = report.Findings(table)
  for records in sanitize.run(source, output, model, settings):
    findings.add(records)
  report.write(
    root,
    source,
    findings,
    table.getvalue(),
    told,
    environment.describe(
      shlex.join(['python', '-m', 'launch.sanitize', *sys.argv[1:]])
    ),
  )
  output.close()
  print(f'{findings.flagged} flagged; report: {root / "report.html"}')
  if findings.unjudged:
    print(
      f'{len(findings.unjudged)} files could not be judged and are not in the '
      f'output; they are named in {root / "scores.csv"}.',
      file=sys.stderr,
    )
    sys.exit(_EXIT_UNJUDGED)


if __name__ == '__main__':
  command.run_tool(main)
