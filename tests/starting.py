"""Commands in processes of their own, from a server that has loaded JAX.

Loading takes seconds, and the tests start hundreds of commands: each is a
process that the server forks, which runs the command as a shell would, in a
session of its own, so that a kill can reach its children too.
"""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

from conftest import REPOSITORY

from babam_jax import cpu

# Its server has no threads: forking a process that has can hang.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload([__name__])
# Where the server, which is not told `sys.path` before Python 3.13, and the
# processes of a sweep find all this.
_PATHS = (pathlib.Path(__file__).parent, REPOSITORY)
os.environ['PYTHONPATH'] = os.pathsep.join(
  [*map(str, _PATHS), os.environ.get('PYTHONPATH', '')]
).rstrip(os.pathsep)
cpu.configure()  # as commands do before they load JAX

# What commands take long to load. Their own modules, which define flags, are
# loaded by each command.
import babam_jax.experiment.pipeline  # noqa: E402, F401
import babam_jax.pirm_training.pirm_stages  # noqa: E402, F401
import babam_jax.runs.tables  # noqa: E402, F401
import babam_jax.sanitizer.whole_folder  # noqa: E402, F401
from babam_jax.cli import verbs  # noqa: E402

_PATIENCE = 300  # seconds
_MODULES = {'launch.main': 'run'} | {
  f'launch.{verb}': verb for verb in verbs.VERBS
}


class HungError(AssertionError):
  """A command did not end."""


class Command:
  """A command that runs.

  Args:
    line: `[python, '-m', 'launch.main', *options]`, or another of `launch`.
    cwd: where it runs.
    before: is called in its process before it begins, to disturb it.
  """

  def __init__(
    self,
    line: Sequence[object],
    cwd: pathlib.Path = REPOSITORY,
    before: Callable[[], object] | None = None,
  ):
    self._line = [str(part) for part in line]
    self._printed = tempfile.TemporaryDirectory()
    paths = [
      pathlib.Path(self._printed.name, name) for name in ('stdout', 'stderr')
    ]
    for path in paths:
      path.write_bytes(b'')
    self.stdout, self.stderr = paths
    self._process = CONTEXT.Process(
      target=_be,
      args=(self._line, cwd, dict(os.environ), paths, before),
      daemon=True,  # a test that fails leaves none
    )
    self._process.start()

  @property
  def pid(self) -> int:
    """The number of its process."""
    return self._process.pid

  def send(self, number: signal.Signals) -> None:
    """Sends a signal to it and to what it has started."""
    for send in (os.killpg, os.kill):
      with contextlib.suppress(ProcessLookupError):
        send(self._process.pid, number)
        return  # otherwise it has no session yet, or has ended

  def is_running(self, seconds: float = 0) -> bool:
    """Whether it still runs after that many seconds."""
    self._process.join(seconds)
    return self._process.is_alive()

  def wait(self, seconds: float = _PATIENCE) -> subprocess.CompletedProcess:
    """Waits for its end; whoever hangs is killed, and fails the test."""
    self._process.join(seconds)
    if self._process.is_alive():
      self.send(signal.SIGKILL)
      self._process.join()
      raise HungError(f'hung for {seconds} s: {self._read(self.stderr)}')
    printed = self._read(self.stdout), self._read(self.stderr)
    return subprocess.CompletedProcess(
      self._line, self._process.exitcode, *printed
    )

  def _read(self, path: pathlib.Path) -> str:
    return path.read_text('utf-8')


def run(
  line: Sequence[object],
  cwd: pathlib.Path = REPOSITORY,
  environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
  """A command from beginning to end; see `Command`.

  Args:
    line: the command.
    cwd: where it runs.
    environment: what it adds to the environment before it loads anything.
  """
  if not environment:
    return Command(line, cwd).wait()
  line = list(map(str, line))
  surroundings = os.environ | environment
  return subprocess.run(
    line,
    cwd=cwd,
    env=surroundings,
    capture_output=True,
    text=True,
    timeout=_PATIENCE,
  )


def python(module: str, *options: object) -> list[str]:
  """The line of a command."""
  return [sys.executable, '-m', module, *map(str, options)]


def _be(line, cwd, environment, paths, before) -> None:
  os.setsid()
  # As in a terminal, also where the tests run in a shell's background.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  os.environ.clear()
  os.environ.update(environment)
  for number, path in enumerate(paths, 1):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, number)
    os.close(descriptor)
  os.chdir(cwd)
  if before is not None:
    before()
  _, _, module, *options = line
  verbs.start(_MODULES[module], [module, *options])
