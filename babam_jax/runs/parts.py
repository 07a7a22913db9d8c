"""A folder that several processes sanitize: on this machine, or through SLURM.

Each does a part of the classes; what is left when all have ended, the reports
at least, one process does.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from babam_jax import errors
from babam_jax.progress import progress_bar, say
from babam_jax.runs import slurm, state
from babam_jax.runs.job import DONE, LOG, Job, last_lines

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
  jobs = _jobs(root, arguments, count)
  folder_of(root).mkdir(parents=True, exist_ok=True)
  with (
    progress_bar(classes, 'sanitizing', 'class') as bar,
    concurrent.futures.ThreadPoolExecutor(count) as pool,
  ):
    left = {
      pool.submit(_on, _cores(place, count), job): name
      for place, (name, job) in enumerate(jobs.items())
    }
    try:
      while left:
        ended = concurrent.futures.wait(left, _LOOK_SECONDS).done
        for one in ended & left.keys():
          name = left.pop(one)
          if not one.result():
            say(f'{name}: not done; it printed to {_log(jobs[name])}')
        bar.update(done() - bar.n)
    finally:
      for name in left.values():
        jobs[name].end()
      for name in left.values():
        jobs[name].stop()


def _log(job: Job) -> pathlib.Path:
  return pathlib.Path(job.folder) / LOG


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


class Queue(NamedTuple):
  """What SLURM, and the logs, say of the jobs that fill a folder.

  Attributes:
    states: of those in its queue, by name.
    failed: the names of those that have ended and are not done, with the last
      lines that they printed.
  """

  states: dict[str, str]
  failed: dict[str, list[str]]


def queue(root: pathlib.Path) -> Queue:
  """The jobs that were submitted last."""
  folder = folder_of(root)
  ids = slurm.submitted(folder)
  known = slurm.queued(list(ids.values()))
  states = {name: known[job] for name, job in ids.items() if job in known}
  failed = {
    name: last_lines(folder / name)
    for name in ids.keys() - states.keys()
    if _has_failed(folder / name)
  }
  return Queue(states, failed)


def _has_failed(folder: pathlib.Path) -> bool:
  events = state.events_of(folder)
  return bool(events) and events[-1].get('status') not in DONE


def check(options: ConfigDict) -> None:
  """Checks that this machine can submit jobs, each of one process.

  Raises:
    UserError: it cannot, or a job is to have several.
  """
  slurm.check()
  if slurm.processes(options) > 1:
    raise errors.UserError(
      f'--slurm: found {slurm.processes(options)} processes a task '
      '(nodes x ntasks_per_node), expected 1. Give --tasks instead.'
    )


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
    UserError: SLURM refuses them.
  """
  logs = folder_of(root)
  logs.mkdir(parents=True, exist_ok=True)
  rest = Job(str(logs / _REST), _VERB, list(arguments))
  waves = [_jobs(root, arguments, count), {_REST: rest}]
  return slurm.submit(logs, waves, options)
