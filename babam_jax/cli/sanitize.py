"""Sanitizes an untrusted folder of pictures, without any training.

  python -m launch.sanitize --input=enrollments/ --output=clean/

The input holds one folder per class. Every picture is scored by the PIRM that
comes with the project, and searched for visible triggers, something that recurs
in a part of one class. In a class whose scores stand out, pictures are then
compared with those of the other classes, and more of them flagged. What is
flagged is left out (or replaced by a PNG with Algorithm 1's noise, or only
reported). The rest is copied byte for byte. The input is never changed. After a
kill, the same command continues.

With `--tasks` several processes share the classes, with `--executor=slurm` on a
cluster; the output is, byte for byte, that of one process on such a machine.
Where another scheduler starts processes, give each its `--part`, and then the
command without one, which does what is left and writes the reports.

Exit status: 0 all files judged (or submitted, or the part done); 2 a mistake,
printed in one line; 3 some files could not be judged: they are in `scores.csv`,
and not in the output.
"""

import pathlib
import re
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Sequence

from absl import flags

from babam_jax import errors, files, invocation
from babam_jax.cli import command
from babam_jax.defenses import by_kind, calibration
from babam_jax.progress import harmless
from babam_jax.runs import parts, slurm
from babam_jax.sanitizer import (
  findings,
  folder,
  order,
  output,
  sanitize,
  whole_folder,
)
from babam_jax.settings import WHOLE_LIMIT
from babam_jax.training import parallel

_INPUT = flags.DEFINE_string('input', None, 'A folder of class folders.')
_OUTPUT = flags.DEFINE_string('output', None, 'A new or empty folder.')
_PIRM = flags.DEFINE_string(
  'pirm',
  order.DEFAULT_PIRM,
  "'general' (knows many kinds of poison), 'shipped' (one kind), 'hardened', "
  'or a file that `babam pirm` wrote.',
)
_DETECTORS = flags.DEFINE_list(
  'detectors',
  list(sanitize.DETECTORS),
  "What is looked for: 'perturbation', which a PIRM finds, and 'visible', "
  'triggers that recur in a part of one class.',
)
_ACTION = flags.DEFINE_enum(
  'action',
  'drop',
  sanitize.ACTIONS,
  "What happens to flagged pictures: they are left out ('drop'), get noise "
  "('perturb', which keeps them, and more of the attack), or are only told of "
  "('report').",
)
_VISIBLE = flags.DEFINE_enum(
  'visible',
  by_kind.DROP,
  sanitize.VISIBLE_ACTIONS,
  "What 'perturb' does with pictures that have a visible trigger.",
)
_THRESHOLD = flags.DEFINE_float(
  'threshold',
  None,
  'Higher probabilities of poison are flagged, also in classes that stand out, '
  'which get no lower threshold then.',
  0,
  1,
)
_FPR = flags.DEFINE_float(
  'fpr',
  None,
  'Instead of a threshold: the share that may be flagged of the clean pictures '
  'held out when the PIRM was trained. Default: '
  f'{calibration.DEFAULT_FPR}.',
  0,
  1,
)
_CALIBRATE = flags.DEFINE_string(
  'calibrate',
  None,
  'A folder of clean pictures like those of the input: the false-positive rate '
  'is measured of them instead.',
)
_DEVICES = flags.DEFINE_integer(
  'devices',
  None,
  'How many GPUs to use, or how many parts a CPU is treated as; default: all '
  'GPUs, or the CPU as one.',
  1,
)
_EPSILON = flags.DEFINE_float(
  'epsilon',
  order.DEFAULT_EPSILON,
  "The noise budget of 'perturb'; a lower one gives more noise.",
)
_LINK = flags.DEFINE_bool(
  'link', False, 'Make hard links instead of copies of unflagged files.'
)
_SEED = flags.DEFINE_integer(
  'seed', 0, "The seed of the noise of 'perturb'.", 0, WHOLE_LIMIT - 1
)
_TASKS = flags.DEFINE_integer(
  'tasks', 1, 'How many processes share the classes.', 1
)
_EXECUTOR = flags.DEFINE_enum(
  'executor',
  'local',
  ('local', 'slurm'),
  'Where they run: on the cores of this machine, or as a job array of SLURM.',
)
_SLURM = command.define_options(
  'slurm', slurm.options(), 'As in sbatch: --slurm.partition=gpu'
)
_PART = flags.DEFINE_string(
  'part', None, 'Only this part of the classes, such as 2/8, and no reports.'
)
# What a process that does a part is told, too.
_PASSED = (
  _INPUT,
  _OUTPUT,
  _PIRM,
  _DETECTORS,
  _ACTION,
  _VISIBLE,
  _THRESHOLD,
  _FPR,
  _CALIBRATE,
  _DEVICES,
  _EPSILON,
  _LINK,
  _SEED,
)
_EXIT_UNJUDGED = 3
_EXIT_TERMINATED = 128 + signal.SIGTERM  # as shells have it
_NAMED = 10  # classes


def _folder(flag: flags.FlagHolder, expected: str) -> pathlib.Path:
  if not flag.value:
    raise errors.UserError(
      f'--{flag.name}: is missing; expected {expected}. Give one with '
      f'--{flag.name}=DIR.'
    )
  return files.named(flag.value)


def main(arguments: Sequence[str]) -> None:
  """Scores, leaves out or perturbs, reports."""
  if arguments:
    raise errors.UserError(
      f'command line: unexpected {arguments[0]!r}; expected --flag=value only.'
    )
  mine = _part()
  is_submitted = _EXECUTOR.value == 'slurm'
  if is_submitted:
    parts.check(_SLURM.value)
    if _is_queued(_root()):
      return
  elif _SLURM.value.to_dict() != slurm.options().to_dict():
    raise errors.UserError(
      '--slurm: found options without --executor=slurm, whose they are. Add it.'
    )
  asked = _order()
  if mine is not None:
    whole_folder.part(asked, mine)
    return
  if is_submitted and whole_folder.begin(asked):
    _submit(asked)
    return
  if not is_submitted and _TASKS.value > 1:
    _share(asked)
  called = invocation.line('sanitize')
  found = whole_folder.whole(asked, f'{called} {shlex.join(sys.argv[1:])}')
  _tell(found)
  if found.unjudged:
    sys.exit(_EXIT_UNJUDGED)


def _root() -> pathlib.Path:
  return _folder(_OUTPUT, 'a new or empty folder')


def _order() -> order.Order:
  """What the command line asks."""
  source = _folder(_INPUT, 'a folder of class folders')
  root = _root()
  if _DEVICES.value is not None:
    parallel.use_devices(_DEVICES.value, '--devices')
  parallel.check_platform()
  calibrate = _CALIBRATE.value
  return order.order(
    source,
    root,
    detectors=_DETECTORS.value,
    pirm=_PIRM.value,
    visible=_VISIBLE.value,
    action=_ACTION.value,
    threshold=_THRESHOLD.value,
    fpr=_FPR.value,
    calibrate=files.named(calibrate) if calibrate else calibrate,
    epsilon=_EPSILON.value,
    link=_LINK.value,
    seed=_SEED.value,
  )


# --- Several processes ---


def _part() -> folder.Part | None:
  """The part that this process does; None: all."""
  if _PART.value is None:
    return None
  if _TASKS.value > 1 or _EXECUTOR.value != 'local':
    raise errors.UserError(
      '--part: found together with --tasks or --executor, which start '
      'processes for all parts; expected one or the other. Leave one out.'
    )
  written = re.fullmatch(r'(\d{1,6})/(\d{1,6})', _PART.value)
  number, count = map(int, written.groups()) if written else (0, 0)
  if not 1 <= number <= count:
    raise errors.UserError(
      f'--part: found {_PART.value!r}, expected a number of a part and how '
      'many there are, such as 1/8 to 8/8.'
    )
  return folder.Part(number, count)


def _passed() -> list[str]:
  """The command line that a part shares with this command."""
  given = (flags.FLAGS[one.name] for one in _PASSED if one.present)
  return [flag.serialize() for flag in given]


def _share(asked: order.Order) -> None:
  """Does all classes in processes of this machine."""
  if not parallel.is_on_cpu():
    raise errors.UserError(
      f'--tasks: found {_TASKS.value} on a machine that computes on a GPU, '
      "which is one process's; expected 1. Give --executor=slurm with a GPU "
      'for each task, or set JAX_PLATFORMS=cpu.'
    )
  # Whoever ends this process ends its parts, too.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(_EXIT_TERMINATED))
  if whole_folder.begin(asked):
    parts.here(
      asked.root,
      _passed(),
      _TASKS.value,
      len(asked.inventory.fingerprints),
      lambda: output.classes_done(asked.root),
    )


def _is_queued(root: pathlib.Path) -> bool:
  """Tells how far SLURM is, and returns whether it has jobs left."""
  queue = parts.queue(root)
  for name, state in queue.states.items():
    print(f'{name}: {state}')
  for name, lines in queue.failed.items():
    print(f'{name}: not done; its last lines:')
    print('\n'.join(f'  {line}' for line in lines))
  if queue.states:
    _tell_how_far(root)
  return bool(queue.states)


def _tell_how_far(root: pathlib.Path) -> None:
  if far := output.how_far(root):
    print(f'{far.done} of {far.classes} classes done')
  print('The same command tells how far it is, and the result at the end.')


def _submit(asked: order.Order) -> None:
  """Submits what is left to SLURM."""
  ids = parts.submit(asked.root, _passed(), _TASKS.value, _SLURM.value)
  logs = parts.folder_of(asked.root)
  print(f'{len(ids)} jobs submitted; they log to {logs}')
  _tell_how_far(asked.root)


# --- The result ---


def _tell(found: whole_folder.SanitizedFolder) -> None:
  is_unrated = found.fpr is None and _THRESHOLD.value is None
  if is_unrated and found.threshold is not None:
    print(
      f'This PIRM has no false-positive rates: --threshold={found.threshold}',
      file=sys.stderr,
    )
  print(f'{found.flagged} flagged; report: {found.report}')
  for why in (found.why_not_visible, found.why_rate_fails):
    if why:
      print(why, file=sys.stderr)
  if found.suspicious_classes:
    names = ', '.join(found.suspicious_classes[:_NAMED])
    more = len(found.suspicious_classes) - _NAMED
    more_of_them = f' and {more} more' if more > 0 else ''
    told = f'classes whose scores stand out: {names}{more_of_them}'
    print(harmless(told))
  for name in list(dict.fromkeys(one.class_name for one in found.recurring))[
    :_NAMED
  ]:
    print(harmless(_told_of(name, found.recurring)))
  if found.unjudged:
    print(
      f'not judged, and not in the output: {len(found.unjudged)} of '
      f'{found.files} files; they are named in {found.scores}.',
      file=sys.stderr,
    )


def _told_of(name: str, recurring: Sequence[findings.Thing]) -> str:
  """What recurs in one class: each picture counts for what it has most of."""
  things = [one for one in recurring if one.class_name == name]
  kinds: Counter[str] = Counter()
  for one in things:
    kinds[one.kind] += one.pictures
  counts = ', '.join(f'{kind} {count}' for kind, count in kinds.most_common())
  return (
    f'{name}: {kinds.total()} of {things[0].judged} pictures have something '
    f'that no other class has ({counts})'
  )


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run_tool(main, ('slurm',))
