"""Reads one picture of an untrusted folder, or says why it cannot be judged."""

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from babam_jax.data import decoding
from babam_jax.defenses.judging import SMALLEST
from babam_jax.sanitizer.room import Room

LARGEST_FILE = 256 << 20  # bytes
LARGEST = 64_000_000  # pixels
# While it is decoded: its samples, and copies in RGB.
_BYTES_A_PIXEL = 12


class UnjudgedError(ValueError):
  """A file that cannot be judged; the message says why."""


class Read(NamedTuple):
  """A picture.

  Attributes:
    pixels: upright 8-bit RGB.
    gray: whether the file has no colors.
    note: remarks about the file.
  """

  pixels: UInt8[np.ndarray, 'h w 3']
  gray: bool
  note: str


@contextmanager
def reading(path: pathlib.Path, room: Room) -> Iterator[Read]:
  """Reads a picture; its content decides what it is, not its name.

  Args:
    path: the file.
    room: what all pictures together may take, held until the block ends.

  Raises:
    UnjudgedError: empty, no picture, truncated, animated, too large or small.
  """
  content = _content(path)
  try:
    header = decoding.header(content)
    _check(header)
    pixels = header.width * header.height
    with room.take(len(content) + _BYTES_A_PIXEL * pixels):
      decoded = decoding.decode(content)
      notes = '; '.join((*header.notes, *decoded.notes))
      yield Read(np.asarray(decoded.image), header.gray, notes)
  except decoding.UnreadableError as error:
    raise UnjudgedError(str(error)) from None


def read(path: pathlib.Path) -> Read:
  """Reads a picture, whatever memory it takes; otherwise like `reading`."""
  with reading(path, Room(0)) as found:
    return found


def _content(path: pathlib.Path) -> bytes:
  try:
    size = path.stat().st_size
    if not size:
      raise UnjudgedError('empty file')
    if size > LARGEST_FILE:
      raise UnjudgedError(f'a file of {size >> 20} MiB')
    return path.read_bytes()
  except OSError as error:
    raise UnjudgedError(f'unreadable ({error.strerror or error})') from None


def _check(header: decoding.Header) -> None:
  shape = f'{header.width} x {header.height} pixels'
  if header.width * header.height > LARGEST:
    raise UnjudgedError(f'{shape}: too many')
  if min(header.width, header.height) < SMALLEST:
    raise UnjudgedError(f'{shape}: less than {SMALLEST} a side')
  if header.animated > 1:
    raise UnjudgedError(f'animated: {header.animated} pictures in one')
