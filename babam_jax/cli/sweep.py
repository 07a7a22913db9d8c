"""Runs a sweep or a study, on this machine or through SLURM.

  python -m launch.sweep --config=configs/sweeps/epsilon.py --workdir=DIR \
    [--executor=slurm --slurm.partition=gpu --slurm.gpus_per_node=1] [--dry_run]
  python -m launch.sweep --config=configs/paper/table2.py --workdir=DIR ...
  python -m launch.sweep --workdir=DIR status [--watch]
  python -m launch.sweep --workdir=DIR resume | cancel | report

The first runs a sweep or a study, or, with `--dry_run`, prints what it would
do. `status` shows the runs, `resume` runs what is missing, `cancel` ends all.
`report` writes `results.csv` and `report.html` of a sweep as far as it is, and
the table of a study that is done. Exit status 3: some runs have failed.
"""

import contextlib
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from babam_jax import errors, files, invocation
from babam_jax.cli import command
from babam_jax.config import rules
from babam_jax.evaluation import table
from babam_jax.runs import plan, results, sharing, slurm, state
from babam_jax.runs.execute import CANCELED, Local, Slurm, execute
from babam_jax.runs.plan import Run
from babam_jax.runs.tables import check_columns

_EXECUTORS = ('local', 'slurm')
_EXECUTOR = flags.DEFINE_enum(
  'executor', 'local', _EXECUTORS, 'This machine, one run at a time, or SLURM.'
)
_SLURM = command.define_options(
  'slurm', slurm.options(), 'As in sbatch: --slurm.partition=gpu'
)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print what would be done.')
_WATCH = flags.DEFINE_bool('watch', False, 'status: until all runs end.')
_RECORD = 'sweep.json'
_RECORD_FIELDS = {
  'config': list,
  'artifacts': str,
  'executor': str,
  'slurm': dict,
  'jobs': dict,
}
_EXIT_FAILED = 3
_WATCH_SECONDS = 2.0
_FILE_WIDTH = 160  # characters
_COLORS = {
  state.DONE: 'green',
  state.RUNNING: 'cyan',
  state.FAILED: 'red',
  state.STOPPED: 'yellow',
}


def _workdir() -> pathlib.Path:
  where = command.workdir()
  if where is None:
    raise errors.UserError(
      '--workdir: is missing; expected the folder of the runs. Give one with '
      '--workdir=DIR.'
    )
  return where


def _is_study() -> bool:
  """Whether the command line names a study, not a sweep."""
  return bool(command.config().study.rows)


# --- Running ---


def _run(runs: list[Run], workdir: pathlib.Path) -> None:
  """Runs what is not done, here or through SLURM."""
  plan.check_given(command.config(), command.given_fields(), runs)
  plan.check(runs)
  _write_record(workdir, runs)
  (workdir / CANCELED).unlink(missing_ok=True)
  arguments = [
    *command.config_arguments(),
    f'--artifacts={command.artifacts_folder().absolute()}',
  ]
  if _EXECUTOR.value == 'local':
    execute(runs, Local(workdir, arguments), _check_columns)
    _finish(runs, workdir)
    return
  count = execute(runs, Slurm(workdir, arguments, _SLURM.value))
  print(f'{count} jobs submitted, {len(runs) - count} left alone')
  print(f'{invocation.line("sweep")} --workdir={workdir} status --watch')


def _check_columns(run: Run) -> None:
  """Finds a wrong column hours before the table is made."""
  if _is_study():
    check_columns(command.config().study, run)


def _finish(runs: list[Run], workdir: pathlib.Path) -> None:
  if _is_study() and plan.missing(runs):
    _status(runs, workdir)
  else:
    _report(runs, workdir)


def _tell(runs: list[Run], workdir: pathlib.Path) -> None:
  """Prints the dry run."""
  del workdir
  plan.check_given(command.config(), command.given_fields(), runs)
  plan.check(runs)
  stages = sharing.stages(runs)
  waves = sharing.waves(runs)
  wave_of = {run.name: n for n, wave in enumerate(waves, 1) for run in wave}
  rows = [(run.name, str(wave_of[run.name])) for run in runs]
  print(table.as_text(('run', 'wave'), rows))
  names = dict.fromkeys(stage.name for stage in stages)
  counts = [
    (
      name,
      str(sum(s.name == name for s in stages)),
      str(sum(len(s.runs) for s in stages if s.name == name)),
    )
    for name in names
  ]
  print(table.as_text(('stage', 'to compute', 'needed by runs'), counts))
  once, each = sharing.estimate(stages, command.artifacts_folder())
  if once is None or each is None:
    print('No estimate: --artifacts holds no earlier run of each stage.')
  else:
    print(
      f'About {once / 60:.1f} minutes of computing as earlier runs took; '
      f'{each / 60:.1f} without reuse. Stored results are counted, too.'
    )


# --- Looking ---


def _drawn(states: list[state.State]) -> Table:
  drawn = Table('run', 'state', 'starts', 'seconds', 'host', 'last line')
  for one in states:
    drawn.add_row(
      Text(one.name),
      Text(one.state, style=_COLORS.get(one.state, '')),
      str(one.attempts or ''),
      '' if one.seconds is None else f'{one.seconds:.0f}',
      Text(one.host),
      Text(one.last_lines[-1] if one.last_lines else ''),
    )
  return drawn


def _status(runs: list[Run], workdir: pathlib.Path) -> None:
  states = state.states(workdir, runs)
  # In a file or a pipe names are not cut.
  console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
  if _WATCH.value and not all(one.is_settled for one in states):
    with Live(console=console, transient=True) as live:
      while not all(one.is_settled for one in states):
        live.update(_drawn(states))
        time.sleep(_WATCH_SECONDS)
        states = state.states(workdir, runs)
  console.print(_drawn(states))
  for one in states:
    if one.state == state.FAILED:
      print(f'\n{one.name} failed on {one.host}; its last lines:')
      print('\n'.join(f'  {line}' for line in one.last_lines))
  counts = {one.state: 0 for one in states}
  for one in states:
    counts[one.state] += 1
  print(', '.join(f'{count} {name}' for name, count in counts.items()))
  _exit_if_failed(states)


def _exit_if_failed(states: list[state.State]) -> None:
  if any(one.state == state.FAILED for one in states):
    sys.exit(_EXIT_FAILED)


def _report(runs: list[Run], workdir: pathlib.Path) -> None:
  states = state.states(workdir, runs)
  if _is_study():
    line = command.repeat_line(invocation.line('run'))
    results.publish_study(workdir, command.config(), runs, line)
  else:
    title = f'Sweep: {command.config_file().stem}'
    line = command.repeat_line(invocation.line('sweep'))
    results.publish_sweep(workdir, title, runs, states, line)
    done = sum(one.state == state.DONE for one in states)
    print(f'{done} of {len(states)} runs: {workdir / "results.csv"}')
  print(f'report: {workdir / "report.html"}')
  _exit_if_failed(states)


def _cancel(runs: list[Run], workdir: pathlib.Path) -> None:
  del runs
  files.write_text(workdir / CANCELED, '')  # for --executor=local
  ids = slurm.submitted(workdir)
  known = slurm.queued(list(ids.values()))
  slurm.cancel(list(known))
  print(f'{len(known)} jobs taken out of the queue')
  if _EXECUTOR.value == 'local':
    print('On this machine it ends after the current run.')


# --- The command line ---


def _configs(runs: list[Run]) -> dict[str, list[str]]:
  """What identifies a sweep or a study in `sweep.json`."""
  return {run.name: rules.as_json(run.config).splitlines() for run in runs}


def _check_record(workdir: pathlib.Path, runs: list[Run]) -> None:
  """Refuses the folder of another sweep or study."""
  path = workdir / _RECORD
  if path.exists():
    if _read_record(path)['jobs'] != _configs(runs):
      raise errors.UserError(
        f'--workdir: {workdir} belongs to another sweep or study, or its '
        'config file has changed since; expected the same runs or a new '
        'folder. Choose another; what both share is reused all the same.'
      )
  elif _is_study():  # launch.main may have begun it
    rules.check_workdir(workdir, command.config())


def _write_record(workdir: pathlib.Path, runs: list[Run]) -> None:
  record = {
    'config': command.config_arguments(),
    'artifacts': str(command.artifacts_folder().absolute()),
    'executor': _EXECUTOR.value,
    'slurm': {
      name: value
      for name, value in _SLURM.value.to_dict().items()
      if value is not None
    },
    'jobs': _configs(runs),
  }
  files.write_json(workdir / _RECORD, record)
  if _is_study():  # launch.report recognizes it by this
    rules.write_config(workdir, command.config())


def _read_record(path: pathlib.Path) -> dict[str, Any]:
  with _as_written(path):
    found = files.read_json(path)
    for name, kind in _RECORD_FIELDS.items():
      if not isinstance(found[name], kind):
        raise ValueError(f'its {name!r} is {found[name]!r:.50}')
    if not all(isinstance(option, str) for option in found['config']):
      raise ValueError(f'its options are {found["config"]!r:.50}')
    return found


def _as_written(path: pathlib.Path) -> contextlib.AbstractContextManager[None]:
  remedy = 'Remove it, and give the command that started the runs again.'
  return files.as_written(path, '--workdir', remedy)


def _recall(workdir: pathlib.Path) -> None:
  """Sets the flags as they were when the runs were started."""
  path = workdir / _RECORD
  if not path.exists():
    raise errors.UserError(
      f'--workdir: no {_RECORD} in {str(workdir)!r}; expected the folder of a '
      'sweep, or of a study that launch.sweep started. Start one with '
      '--config=configs/sweeps/epsilon.py.'
    )
  record = _read_record(path)
  command.add_arguments(
    [
      *record['config'],
      f'--artifacts={record["artifacts"]}',
      f'--executor={record["executor"]}',
    ]
  )
  with _as_written(path):
    _SLURM.value.update(record['slurm'])


def main(arguments: Sequence[str]) -> None:
  """Starts a sweep or a study, or looks after one."""
  actions: dict[str, Callable[[list[Run], pathlib.Path], None]] = {
    'run': _tell if _DRY_RUN.value else _run,
    'resume': _run,
    'status': _status,
    'cancel': _cancel,
    'report': _report,
  }
  action = ' '.join(arguments) or 'run'
  if action not in actions:
    raise errors.UserError(
      f'command line: found {action!r}, expected nothing or one of '
      f'{", ".join(list(actions)[1:])}. See --help.'
    )
  workdir = _workdir()
  if action != 'run':
    _recall(workdir)
  runs = plan.of_file(command.config_file(), command.config(), workdir)
  _check_record(workdir, runs)
  actions[action](runs, workdir)


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run_tool(main, ('config', 'workdir', 'artifacts', 'slurm'))
