"""Runs an experiment many times, on this machine or through SLURM.

  python -m launch.sweep --config=configs/sweeps/epsilon.py --workdir=DIR \
    [--executor=slurm --slurm.partition=gpu --slurm.gpus_per_node=1] [--dry_run]
  python -m launch.sweep --workdir=DIR status [--watch]
  python -m launch.sweep --workdir=DIR resume | cancel | report

The first runs a sweep, or, with `--dry_run`, tells what it would do. `status`
shows how far it is, `resume` runs what is missing, `cancel` ends it, `report`
writes `results.csv` and `report.html`. Exit status 3: some runs have failed.
"""

import pathlib
import runpy
import sys
import time
from collections.abc import Sequence

from absl import flags
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from babam_jax import errors, files, invocation
from babam_jax.cli import command
from babam_jax.config import rules
from babam_jax.evaluation import table
from babam_jax.progress import progress_bar, say
from babam_jax.runs import plan, results, slurm, state
from babam_jax.runs.job import Experiment
from babam_jax.runs.plan import Job

_EXECUTORS = ('local', 'slurm')
_EXECUTOR = flags.DEFINE_enum(
  'executor', 'local', _EXECUTORS, 'This machine, one run at a time, or SLURM.'
)
_SLURM = command.define_options(
  'slurm', slurm.options(), 'As in sbatch: --slurm.partition=gpu'
)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Tell what would be done.')
_WATCH = flags.DEFINE_bool('watch', False, 'status: until all is settled.')
_RECORD = 'sweep.json'
_CANCELLED = 'canceled'
_EXIT_FAILED = 3
_WATCH_SECONDS = 2.0
_FILE_WIDTH = 160  # characters
_COLOURS = {
  state.DONE: 'green',
  state.RUNNING: 'cyan',
  state.FAILED: 'red',
  state.STOPPED: 'yellow',
}


def _workdir() -> pathlib.Path:
  where = command.workdir()
  if where is None:
    raise errors.UserError(
      '--workdir: is missing; expected the folder of the sweep. Give one with '
      '--workdir=DIR.'
    )
  return where


def _planned(workdir: pathlib.Path) -> list[Job]:
  """The jobs of the sweep that the command line names."""
  path = command.config_file()
  module = runpy.run_path(str(path))
  if 'sweep' not in module:
    raise errors.UserError(
      f'--config: {path} has no function sweep(config); expected a sweep. Take '
      f'one of configs/sweeps, or run it: {invocation.line("run")}.'
    )
  return plan.jobs(command.config(), module['sweep'], workdir)


# --- Running ---


def _run(planned: list[Job], workdir: pathlib.Path) -> None:
  """Runs what is not done, here or through SLURM."""
  states = {one.name: one for one in state.states(workdir, planned)}
  left = [
    job
    for job in planned
    if states[job.name].state != state.DONE and states[job.name].is_settled
  ]
  if _EXECUTOR.value == 'local':
    _run_here(left, workdir)
    _report(planned, workdir)
    return
  slurm.check()
  waves = [
    {job.name: _experiment(job) for job in wave} for wave in plan.waves(left)
  ]
  ids = slurm.submit(workdir, waves, _SLURM.value)
  print(f'{len(ids)} jobs submitted, {len(planned) - len(left)} left alone')
  print(f'{invocation.line("sweep")} --workdir={workdir} status --watch')


def _experiment(job: Job) -> Experiment:
  arguments = [
    *command.config_arguments(),
    *(f'--config.{field}={value}' for field, value in job.overrides.items()),
    f'--workdir={job.folder.absolute()}',
    f'--artifacts={command.artifacts_folder().absolute()}',
  ]
  if _EXECUTOR.value == 'slurm' and slurm.processes(_SLURM.value) > 1:
    arguments.append('--distributed')
  return Experiment(str(job.folder.absolute()), arguments)


def _run_here(left: list[Job], workdir: pathlib.Path) -> None:
  with progress_bar(len(left), 'sweep', 'run') as bar:
    for job in left:
      if (workdir / _CANCELLED).exists():
        say('canceled')
        return
      say(f'{job.name}: running; it prints to {job.folder / "log.txt"}')
      experiment = _experiment(job)
      try:
        done = experiment()
      finally:
        experiment.stop()
      say(f'{job.name}: {"done" if done else "not done"}')
      bar.update()


def _tell(planned: list[Job]) -> None:
  """The dry run."""
  stages = plan.stages(planned)
  waves = plan.waves(planned)
  wave_of = {job.name: n for n, wave in enumerate(waves, 1) for job in wave}
  rows = [(job.name, str(wave_of[job.name])) for job in planned]
  print(table.as_text(('run', 'wave'), rows))
  names = dict.fromkeys(stage.name for stage in stages)
  counts = [
    (
      name,
      str(sum(s.name == name for s in stages)),
      str(sum(len(s.jobs) for s in stages if s.name == name)),
    )
    for name in names
  ]
  print(table.as_text(('stage', 'to compute', 'needed by runs'), counts))
  once, each = plan.estimate(stages, command.artifacts_folder())
  if once is None or each is None:
    print('No estimate: --artifacts holds no earlier run of each stage.')
  else:
    print(
      f'About {once / 60:.1f} minutes of computing as earlier runs took; '
      f'{each / 60:.1f} without reuse. What is there already is not left out.'
    )


# --- Looking ---


def _drawn(states: list[state.State]) -> Table:
  drawn = Table('run', 'state', 'starts', 'seconds', 'host', 'last line')
  for one in states:
    drawn.add_row(
      Text(one.name),
      Text(one.state, style=_COLOURS.get(one.state, '')),
      str(one.attempts or ''),
      '' if one.seconds is None else f'{one.seconds:.0f}',
      Text(one.host),
      Text(one.last_lines[-1] if one.last_lines else ''),
    )
  return drawn


def _status(planned: list[Job], workdir: pathlib.Path) -> None:
  states = state.states(workdir, planned)
  # In a file or a pipe names are not cut.
  console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
  if _WATCH.value and not all(one.is_settled for one in states):
    with Live(console=console, transient=True) as live:
      while not all(one.is_settled for one in states):
        live.update(_drawn(states))
        time.sleep(_WATCH_SECONDS)
        states = state.states(workdir, planned)
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


def _report(planned: list[Job], workdir: pathlib.Path) -> None:
  states = state.states(workdir, planned)
  results.write_csv(workdir, planned, states)
  title = f'Sweep: {command.config_file().stem}'
  line = command.repeat_line(invocation.line('sweep'))
  results.write_page(workdir, title, planned, states, line)
  done = sum(one.state == state.DONE for one in states)
  print(f'{done} of {len(states)} runs: {workdir / "results.csv"}')
  print(f'report: {workdir / "report.html"}')
  _exit_if_failed(states)


def _cancel(planned: list[Job], workdir: pathlib.Path) -> None:
  files.write_text(workdir / _CANCELLED, '')  # for --executor=local
  ids = slurm.submitted(workdir)
  known = slurm.queued(list(ids.values()))
  slurm.cancel(list(known))
  print(f'{len(known)} jobs taken out of the queue')
  if _EXECUTOR.value == 'local':
    print('A sweep on a machine of its own ends after the run that it is at.')


# --- The command line ---


def _write_record(workdir: pathlib.Path, planned: list[Job]) -> None:
  """Keeps what identifies the sweep; refuses the folder of another one."""
  record = {
    'config': command.config_arguments(),
    'artifacts': str(command.artifacts_folder().absolute()),
    'executor': _EXECUTOR.value,
    'slurm': {
      name: value
      for name, value in _SLURM.value.to_dict().items()
      if value is not None
    },
    'jobs': {
      job.name: rules.as_json(job.config).splitlines() for job in planned
    },
  }
  path = workdir / _RECORD
  if path.exists() and files.read_json(path)['jobs'] != record['jobs']:
    raise errors.UserError(
      f'--workdir: {workdir} belongs to another sweep; expected the same one '
      'or a new folder. Choose another; what both share is reused all the same.'
    )
  files.write_json(path, record)


def _recall(workdir: pathlib.Path) -> None:
  """Sets the flags as they were when the sweep was started."""
  path = workdir / _RECORD
  if not path.exists():
    raise errors.UserError(
      f'--workdir: no {_RECORD} in {str(workdir)!r}; expected the folder of a '
      'sweep. Start one with --config=configs/sweeps/epsilon.py.'
    )
  try:
    record = files.read_json(path)
  except ValueError as error:
    raise errors.UserError(
      f'--workdir: {path} is damaged ({error}); expected it as it was written. '
      'Give the command that started the sweep again.'
    ) from None
  command.add_arguments(
    [
      *record['config'],
      f'--artifacts={record["artifacts"]}',
      f'--executor={record["executor"]}',
    ]
  )
  _SLURM.value.update(record['slurm'])


def main(arguments: Sequence[str]) -> None:
  """Starts a sweep, or looks after one."""
  action = ' '.join(arguments) or 'run'
  actions = {'status': _status, 'cancel': _cancel, 'report': _report}
  if action not in ('run', 'resume', *actions):
    raise errors.UserError(
      f'command line: found {action!r}, expected nothing, {", ".join(actions)} '
      "or 'resume'. See --help."
    )
  workdir = _workdir()
  if action != 'run':
    _recall(workdir)
  planned = _planned(workdir)
  if action in actions:
    actions[action](planned, workdir)
  elif _DRY_RUN.value:
    _tell(planned)
  else:
    _write_record(workdir, planned)
    (workdir / _CANCELLED).unlink(missing_ok=True)
    _run(planned, workdir)


def start() -> None:
  """The command, with what its command line says."""
  command.run_tool(main, ('config', 'workdir', 'artifacts', 'slurm'))
