"""A folder that several processes sanitize: on this machine, or through SLURM.

Each does a part of the classes; what is left when all have ended, the reports
at least, one process does.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from babam_jax import errors
from babam_jax.progress import progress_bar
from babam_jax.runs import slurm
from babam_jax.runs.job import Job

_VERB = 'sanitize'
_JOBS = '.jobs'
_REST = 'rest'
_LOOK_SECONDS = 2.0


def folder_of(root: pathlib.Path) -> pathlib.Path:
  """Where the processes that fill a folder log what they do: beside it."""
  return root.absolute().with_name(root.absolute().name + _JOBS)


def _jobs(
  root: pathlib.Path, arguments: Sequence[str], count: int
) -> dict[str, Job]:
  names = [f'part-{number}-of-{count}' for number in range(1, count + 1)]
  return {
    name: Job(
      str(folder_of(root) / name),
      _VERB,
      [*arguments, f'--part={number}/{count}'],
    )
    for number, name in enumerate(names, 1)
  }


def here(
  root: pathlib.Path,
  arguments: Sequence[str],
  count: int,
  classes: int,
  done: Callable[[], int],
) -> None:
  """Does the parts on this machine, side by side, each on cores of its own.

  Args:
    root: the output folder; it has begun.
    arguments: those of the command.
    count: the number of parts.
    classes: the number of classes.
    done: tells how many of these are done.
  """
  jobs = list(_jobs(root, arguments, count).values())
  with (
    progress_bar(classes, 'sanitizing', 'class') as bar,
    concurrent.futures.ThreadPoolExecutor(count) as pool,
  ):
    left = {
      pool.submit(_on, _cores(i, count), job): job for i, job in enumerate(jobs)
    }
    try:
      while left:
        ended = concurrent.futures.wait(left, _LOOK_SECONDS).done
        left = {one: left[one] for one in left if one not in ended}
        bar.update(done() - bar.n)
    finally:
      for job in left.values():
        job.stop()


def _cores(place: int, count: int) -> set[int]:
  """The cores of one of several processes; none where they cannot be chosen."""
  if not hasattr(os, 'sched_getaffinity'):  # macOS
    return set()
  cores = sorted(os.sched_getaffinity(0))
  return set(cores[place::count]) or {cores[place % len(cores)]}


def _on(cores: set[int], job: Job) -> bool:
  if cores:  # of this thread; the process inherits them
    os.sched_setaffinity(0, cores)
  return job()


def queued(root: pathlib.Path) -> dict[str, str]:
  """SLURM's state of the jobs that fill a folder, by name."""
  ids = slurm.submitted(folder_of(root))
  known = slurm.queued(list(ids.values()))
  return {name: known[job] for name, job in ids.items() if job in known}


def submit(
  root: pathlib.Path, arguments: Sequence[str], count: int, options: ConfigDict
) -> dict[str, str]:
  """Submits the parts, and one job after them that does the rest.

  Args:
    root: the output folder; it has begun.
    arguments: those of the command.
    count: the number of parts.
    options: those of `slurm.options`.

  Returns:
    The SLURM job of each name.

  Raises:
    UserError: SLURM refuses them, or a job is to have several processes.
  """
  if slurm.processes(options) > 1:
    raise errors.UserError(
      f'--slurm: found {slurm.processes(options)} processes a task '
      '(nodes x ntasks_per_node), expected 1. Give --tasks instead.'
    )
  logs = folder_of(root)
  logs.mkdir(parents=True, exist_ok=True)
  rest = Job(str(logs / _REST), _VERB, list(arguments))
  waves = [_jobs(root, arguments, count), {_REST: rest}]
  return slurm.submit(logs, waves, options)
