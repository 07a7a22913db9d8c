"""The runs of a plan, executed: in this process, in processes, on a cluster."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from babam_jax.experiment import pipeline
from babam_jax.progress import progress_bar, say
from babam_jax.runs import sharing, slurm, state
from babam_jax.runs.alone import alone_in
from babam_jax.runs.job import Job
from babam_jax.runs.plan import Run

CANCELED = 'canceled'  # a file in the working folder: start no more runs

After = Callable[[Run], None]


class Here(NamedTuple):
  """Runs in this process, one run at a time; the first error ends all.

  Attributes:
    workdir: the folder of the study or the sweep.
    artifacts: where stage results are kept and found.
    command: how to repeat all runs.
  """

  workdir: pathlib.Path
  artifacts: pathlib.Path
  command: str

  def start(self, left: Sequence[Run], after: After) -> None:
    """Runs them, and calls `after` with each that is done."""
    for number, run in enumerate(left, 1):
      say(f'run {number} of {len(left)}: {run.name}')
      with alone_in(run.folder):
        line = repeat_line(self.command, run)
        pipeline.run(run.config, run.folder, self.artifacts, line)
      after(run)


class Local(NamedTuple):
  """Runs on this machine, one at a time, each in a process of its own.

  Attributes:
    workdir: the folder of the study or the sweep.
    arguments: those of the command of a run, without the run's own.
  """

  workdir: pathlib.Path
  arguments: Sequence[str]

  def start(self, left: Sequence[Run], after: After) -> None:
    """Runs them, and calls `after` with each that is done; one that fails stops
    no other."""
    with progress_bar(len(left), 'runs', 'run') as bar:
      for run in left:
        if (self.workdir / CANCELED).exists():
          say('canceled')
          return
        say(f'{run.name}: running; it prints to {run.folder / "log.txt"}')
        job = _job(run, self.arguments)
        try:
          done = job()
        finally:
          job.stop()
        say(f'{run.name}: {"done" if done else "not done"}')
        if done:
          after(run)
        bar.update()


class Slurm(NamedTuple):
  """Runs through SLURM, which decides how many run at a time.

  Attributes:
    workdir: the folder of the study or the sweep.
    arguments: those of the command of a run, without the run's own.
    options: those of `slurm.options`.
  """

  workdir: pathlib.Path
  arguments: Sequence[str]
  options: ConfigDict

  def start(self, left: Sequence[Run], after: After) -> None:
    """Submits them; `after` is not called, as this process does not wait.

    Raises:
      UserError: this machine cannot submit jobs, or SLURM refuses them.
    """
    del after
    slurm.check()
    together = slurm.processes(self.options) > 1
    arguments = [*self.arguments, *(['--distributed'] if together else [])]
    waves = [
      {run.name: _job(run, arguments) for run in wave}
      for wave in sharing.waves(left)
    ]
    slurm.submit(self.workdir, waves, self.options)


def execute(
  runs: Sequence[Run],
  where: Here | Local | Slurm,
  after: After = lambda run: None,
) -> int:
  """Executes those runs of a plan that are not done.

  Args:
    runs: all runs of the plan.
    where: where and how to run them.
    after: is called with each run that is done; not through SLURM.

  Returns:
    The number of runs that it started: those that were neither done, nor
    running, nor in SLURM's queue.
  """
  found = state.states(where.workdir, runs)
  left = [
    run
    for run, one in zip(runs, found, strict=True)
    if one.state != state.DONE and one.is_settled
  ]
  if left:
    where.start(left, after)
  return len(left)


def repeat_line(command: str, run: Run) -> str:
  """How to repeat one run alone, given how to repeat all."""
  return f'{command} --only={run.name}'


def _job(run: Run, arguments: Sequence[str]) -> Job:
  folder = run.folder.absolute()
  own = [f'--only={run.name}', f'--workdir={folder}']
  return Job(
    str(folder), 'run', [*arguments, *own], str(folder / 'metrics.json')
  )
