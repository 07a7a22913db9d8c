"""Calls to the file system, counted; one of them kills or fails.

Python reports such calls to audit hooks before it makes them.
"""

import itertools
import os
import pathlib
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

_CHANGING = (
  'os.link',
  'os.mkdir',
  'os.remove',
  'os.rename',
  'os.rmdir',
  'os.symlink',
  'os.truncate',
)


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
  if event == 'open':
    flags = arguments[2]
    return isinstance(flags, int) and bool(
      flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    )
  return event in _CHANGING


def _is_below(path: Any, root: pathlib.Path) -> bool:
  try:
    # Commands name what they write from the folder in which they run.
    return os.path.abspath(os.fsdecode(path)).startswith(str(root))
  except TypeError:  # a descriptor
    return False


def _on_change(root: pathlib.Path, call: Callable[[], object]) -> None:
  """Calls `call` before each change that this process makes below a folder."""

  def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _changes(event, arguments) and _is_below(arguments[0], root):
      call()

  sys.addaudithook(hook)


class Kill(NamedTuple):
  """Kills the process at one of its changes to a folder.

  Attributes:
    root: the folder.
    at: the number of the change, from 1.
  """

  root: pathlib.Path
  at: int

  def __call__(self) -> None:
    """Begins to count."""
    numbers = itertools.count(1)

    def count() -> None:
      if next(numbers) == self.at:
        os.kill(os.getpid(), signal.SIGKILL)

    _on_change(self.root, count)


class Count(NamedTuple):
  """Counts the changes of a process to a folder.

  Attributes:
    root: the folder.
    total: receives a byte for each change.
  """

  root: pathlib.Path
  total: pathlib.Path

  def __call__(self) -> None:
    """Begins to count."""
    total = os.open(self.total, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _on_change(self.root, lambda: os.write(total, b'.'))


class Fail(NamedTuple):
  """Makes some kinds of calls fail, as a file system does that lacks them.

  Attributes:
    events: the names of the calls, as audit hooks have them.
    number: the number of the error, from `errno`.
  """

  events: tuple[str, ...]
  number: int

  def __call__(self) -> None:
    """Begins to fail."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
      if event in self.events:
        path = arguments[0] if isinstance(arguments[0], str) else None
        raise OSError(self.number, os.strerror(self.number), path)

    sys.addaudithook(hook)


class JumpingClock(NamedTuple):
  """Makes the clock jump, by up to a day, some times a second.

  Attributes:
    seed: decides the jumps.
  """

  seed: int

  def __call__(self) -> None:
    """Begins to jump."""
    right = time.time

    def jumping() -> float:
      rng = random.Random(f'{self.seed} {time.monotonic() // 0.2}')
      return right() + rng.uniform(-86400, 86400)

    time.time = jumping
