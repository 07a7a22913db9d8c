"""Memory that has ended, told apart from a file that asks for too much."""

# What the largest picture needs that is accepted; files of weights read more,
# but not at once.
_MUCH = 768 << 20  # bytes


def is_there() -> bool:
  """Whether there is plenty: then a `MemoryError` was a file's own doing."""
  try:
    bytearray(_MUCH)
  except MemoryError:
    return False
  return True
