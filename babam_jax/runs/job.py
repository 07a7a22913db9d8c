"""One of several commands, each in a process of its own: a run of a plan, or a
part of a folder that is sanitized.

The process may die (out of memory, a broken node, `kill -9`) without taking
the others with it: it is started once more, and continues where it was. What
happened is appended to `attempts.jsonl` in the job's folder, what it printed to
`log.txt`.
"""

import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from babam_jax import locks

if TYPE_CHECKING:
  import submitit

ATTEMPTS = 'attempts.jsonl'
LOG = 'log.txt'
LOCK = 'job.lock'
_USER_ERROR = 2  # giving the command again does not help
DONE = (0, 3)  # 3: done, and there is something to look at
_INTERRUPTED = (130, -signal.SIGINT)
_TRIES = 2
_LAST_LINES = 5
_LOCK_SECONDS = 10  # a look at the state holds the lock for a moment
_GRACE_SECONDS = 60  # between SIGTERM, when a cluster wants its node, and death


@dataclasses.dataclass
class Job:
  """What a cluster is given to run; nothing but text, so it can be sent.

  Attributes:
    folder: for its log; of a run its working folder.
    verb: of the command `babam`.
    arguments: its other arguments.
    result: a file that is there once it is done; '': none tells, and the
      command is given again.
  """

  folder: str
  verb: str
  arguments: list[str]
  result: str = ''

  def __post_init__(self) -> None:
    self._child: subprocess.Popen | None = None
    self._stopped = False

  def __getstate__(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__init__(**state)

  def __call__(self) -> bool:
    """Runs it unless it is done; returns whether it is done now.

    Raises:
      RuntimeError: one of several processes that share it failed.
    """
    if int(os.environ.get('SLURM_PROCID', 0)):
      self._follow()
      return self._done()
    folder = pathlib.Path(self.folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
      with locks.held(folder / LOCK, seconds=_LOCK_SECONDS):
        return self._done() or self._try()
    except locks.BusyError:
      return False  # it runs already, in another job

  def checkpoint(self) -> 'submitit.helpers.DelayedSubmission':
    """Ends the run when the cluster wants its node; the job is requeued."""
    import submitit  # only submitit calls this

    if self._child:
      self._child.kill()  # at any moment: nothing is ever half written
    return submitit.helpers.DelayedSubmission(Job(**dataclasses.asdict(self)))

  def stop(self) -> None:
    """Ends the process, and starts none again."""
    self.end()
    if self._child:
      self._child.wait()

  def end(self) -> None:
    """Tells the process to end; does not wait."""
    self._stopped = True
    if self._child:
      self._child.terminate()

  def _done(self) -> bool:
    return bool(self.result) and pathlib.Path(self.result).exists()

  def _follow(self) -> None:
    """Runs the other processes of a distributed run, not the first one."""
    with open(os.devnull, 'wb') as nowhere:
      if self._run(nowhere, subprocess.STDOUT):
        raise RuntimeError(f'{self.folder}: a process of this run has failed.')

  def _try(self) -> bool:
    together = int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1
    for number in range(1, 2 if together else 1 + _TRIES):
      status = self._attempt(number)
      if status in DONE:
        return True
      if self._stopped or status in (_USER_ERROR, *_INTERRUPTED):
        return False
    if together:  # its other processes wait for it
      raise RuntimeError(f'{self.folder}: the first process has failed.')
    return False

  def _attempt(self, number: int) -> int:
    start = time.time()
    self._note('start', attempt=number, job=slurm_job())
    with open(pathlib.Path(self.folder) / LOG, 'ab') as log:
      status = self._run(log, subprocess.STDOUT)
    if status == -signal.SIGTERM and slurm_job() and not self._stopped:
      time.sleep(_GRACE_SECONDS)  # it will end us, too: this is no failure
    self._note(
      'end',
      attempt=number,
      status=status,
      seconds=round(time.time() - start, 1),
      last_lines=last_lines(pathlib.Path(self.folder)) if status else [],
    )
    return status

  def _run(self, output: Any, errors: int) -> int:
    command = [
      sys.executable,
      '-m',
      'babam_jax.cli',
      self.verb,
      *self.arguments,
    ]
    self._child = subprocess.Popen(command, stdout=output, stderr=errors)
    if self._stopped:  # meanwhile
      self._child.terminate()
    return self._child.wait()

  def _note(self, event: str, **fields: Any) -> None:
    record = {
      'event': event,
      'time': round(time.time(), 1),
      'host': socket.gethostname(),
    }
    # One short line, opened to append: written at once.
    with open(pathlib.Path(self.folder) / ATTEMPTS, 'a') as file:
      file.write(json.dumps(record | fields) + '\n')


def slurm_job() -> str | None:
  """The SLURM job that this process belongs to; arrays count as `12_3`."""
  array = os.environ.get('SLURM_ARRAY_JOB_ID')
  if array:
    return f'{array}_{os.environ["SLURM_ARRAY_TASK_ID"]}'
  return os.environ.get('SLURM_JOB_ID')


def last_lines(folder: pathlib.Path) -> list[str]:
  """The last lines that a run printed."""
  path = folder / LOG
  if not path.exists():
    return []
  with open(path, 'rb') as file:
    file.seek(max(0, path.stat().st_size - 4096))
    text = file.read().decode('utf-8', 'replace').replace('\r', '\n')
  lines = [line.strip() for line in text.split('\n')]
  return [line for line in lines if line][-_LAST_LINES:]
