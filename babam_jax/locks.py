"""Locks between processes: the kernel's, which end with their process, however
that dies."""

import contextlib
import pathlib
from collections.abc import Iterator

import filelock

from babam_jax import errors


class BusyError(Exception):
  """Another process holds the lock."""


@contextlib.contextmanager
def held(path: pathlib.Path, seconds: float = -1) -> Iterator[None]:
  """Holds a lock meanwhile.

  Args:
    path: the file of the lock; it is made, and stays.
    seconds: how long to wait for whoever holds it; -1: for ever.

  Raises:
    BusyError: another process holds it still.
    UserError: the disk has no locks, as some network disks.
    OSError: the file cannot be made.
  """
  # Without locks of the kernel, filelock would leave a file behind a kill that
  # locks everybody out.
  lock = filelock.FileLock(path, fallback_to_soft=False)
  was_there = path.exists()
  try:
    lock.acquire(timeout=seconds)
  except filelock.Timeout:
    raise BusyError from None
  except OSError as error:
    if error.filename is not None:
      raise
    if not was_there:
      path.unlink(missing_ok=True)
    raise errors.UserError(
      f'{path}: cannot be locked ({error.strerror}); expected a disk that has '
      'locks (flock), as two runs must not write to one file. Choose a folder '
      'on another disk.'
    ) from None
  try:
    yield
  finally:
    lock.release()
