"""Memory for large pictures: however many threads there are, few at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
  """A number of bytes that threads share.

  Args:
    size: the bytes that all have together.
  """

  def __init__(self, size: int):
    self._size = self._left = size
    self._changed = threading.Condition()

  @contextmanager
  def take(self, wanted: int) -> Iterator[None]:
    """Waits until that many bytes are free, and holds them meanwhile; who wants
    more than there are waits until all are."""
    held = min(wanted, self._size)
    with self._changed:
      self._changed.wait_for(lambda: self._left >= held)
      self._left -= held
    try:
      yield
    finally:
      with self._changed:
        self._left += held
        self._changed.notify_all()
