"""One run at a time in a working folder."""

import contextlib
import pathlib
from collections.abc import Iterator

from babam_jax import errors, locks
from babam_jax.store.lab import RUN_LOCK

_LOCK_SECONDS = 5  # a look at the state holds the lock for a moment


@contextlib.contextmanager
def alone_in(where: pathlib.Path) -> Iterator[None]:
  """Keeps other runs out of a folder meanwhile, with a lock of the kernel. A
  folder that it made, and that stays empty, is removed.

  Raises:
    UserError: another run works there.
  """
  made = [one for one in (where, *where.parents) if not one.exists()]
  where.mkdir(parents=True, exist_ok=True)
  try:
    with locks.held(where / RUN_LOCK, seconds=_LOCK_SECONDS):
      try:
        yield
      finally:
        (where / RUN_LOCK).unlink(missing_ok=True)
  except locks.BusyError:
    raise errors.UserError(
      f'--workdir: another run is at work in {where}; expected a folder for '
      'one run. Wait for it, or choose another.'
    ) from None
  finally:
    for one in made:
      with contextlib.suppress(OSError):
        one.rmdir()  # if it is empty: nothing was begun
