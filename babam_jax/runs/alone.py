"""One run at a time in a working folder."""

import contextlib
import pathlib
from collections.abc import Iterator

import filelock

from babam_jax import errors
from babam_jax.store.lab import RUN_LOCK

_LOCK_SECONDS = 5  # whoever looks at the state holds it for a moment


@contextlib.contextmanager
def alone_in(where: pathlib.Path) -> Iterator[None]:
  """No other run works in this folder meanwhile; the kernel's lock tells. A
  folder that it made, and that stays empty, is removed.

  Raises:
    UserError: one does.
  """
  made = [one for one in (where, *where.parents) if not one.exists()]
  where.mkdir(parents=True, exist_ok=True)
  lock = filelock.FileLock(where / RUN_LOCK)
  try:
    lock.acquire(timeout=_LOCK_SECONDS)
  except filelock.Timeout:
    raise errors.UserError(
      f'--workdir: another run is at work in {where}; expected a folder for '
      'one run. Wait for it, or choose another.'
    ) from None
  try:
    yield
  finally:
    (where / RUN_LOCK).unlink(missing_ok=True)
    lock.release()
    for one in made:
      with contextlib.suppress(OSError):
        one.rmdir()  # if it is empty: nothing was begun
