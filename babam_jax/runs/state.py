"""The states of runs, from what they have left in their folders."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from babam_jax import files, locks
from babam_jax.runs import job, slurm
from babam_jax.runs.plan import Run
from babam_jax.store import lab

DONE, RUNNING, QUEUED, FAILED = 'done', 'running', 'queued', 'failed'
STOPPED, WAITING = 'stopped', 'waiting'
_EVENT_FIELDS = {'start': {'host'}, 'end': {'host', 'seconds', 'status'}}


class State(NamedTuple):
  """The state of one run.

  Attributes:
    name: the name of the run.
    state: 'done', 'running', 'queued' (SLURM has it), 'failed' (twice in a
      row, or by the user's mistake), 'stopped' (killed; resume goes on) or
      'waiting' (not started).
    attempts: how often its process was started.
    seconds: the duration of its last attempt that ended, or None.
    host: the host of its last attempt.
    last_lines: the last lines that it printed.
  """

  name: str
  state: str
  attempts: int
  seconds: float | None
  host: str
  last_lines: list[str]

  @property
  def is_settled(self) -> bool:
    """Whether nothing will happen to it by itself."""
    return self.state not in (RUNNING, QUEUED)


def states(workdir: pathlib.Path, runs: Sequence[Run]) -> list[State]:
  """The states of all runs of a plan."""
  ids = slurm.submitted(workdir)
  known = slurm.queued(list(ids.values()))
  return [_state(run, ids.get(run.name, '') in known) for run in runs]


def _state(run: Run, in_queue: bool) -> State:
  events = events_of(run.folder)
  ends = [event for event in events if event['event'] == 'end']
  return State(
    run.name,
    _name(run.folder, events, in_queue),
    sum(event['event'] == 'start' for event in events),
    ends[-1]['seconds'] if ends else None,
    events[-1]['host'] if events else '',
    job.last_lines(run.folder),
  )


def _name(folder: pathlib.Path, events: list[dict], in_queue: bool) -> str:
  if (folder / 'metrics.json').exists():
    return DONE
  # The experiment may outlive the process that started it.
  if _is_held(folder / job.LOCK) or _is_held(folder / lab.RUN_LOCK):
    return RUNNING
  if in_queue:
    return QUEUED
  if not events:
    return WAITING
  last = events[-1]
  return FAILED if last['event'] == 'end' and last['status'] else STOPPED


def _is_held(path: pathlib.Path) -> bool:
  """Whether a living process holds the lock, which ends with it."""
  if not path.exists():
    return False
  try:
    with locks.held(path, seconds=0):
      return False
  except locks.BusyError:
    return True


def events_of(folder: pathlib.Path) -> list[dict]:
  """What happened to a job that logs to a folder, as `job.Job` noted it."""
  return list(filter(_is_event, files.read_lines(folder / job.ATTEMPTS)))


def _is_event(line: dict[str, Any]) -> bool:
  fields = _EVENT_FIELDS.get(str(line.get('event')))
  return fields is not None and fields <= line.keys()
