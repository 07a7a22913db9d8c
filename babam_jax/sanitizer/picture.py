"""Reads one picture of an untrusted folder, or says why it cannot be judged."""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from babam_jax.data import decoding
from babam_jax.defenses.judging import SMALLEST

LARGEST_FILE = 256 << 20  # bytes
LARGEST = 64_000_000  # pixels


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


def read(path: pathlib.Path) -> Read:
  """Reads a picture; its content decides what it is, not its name.

  Raises:
    UnjudgedError: empty, no picture, truncated, animated, too large or small.
  """
  try:
    size = path.stat().st_size
    if not size:
      raise UnjudgedError('empty file')
    if size > LARGEST_FILE:
      raise UnjudgedError(f'a file of {size >> 20} MiB')
    content = path.read_bytes()
  except OSError as error:
    raise UnjudgedError(f'unreadable ({error.strerror or error})') from None
  try:
    return _decode(content)
  except decoding.UnreadableError as error:
    raise UnjudgedError(str(error)) from None


def _decode(content: bytes) -> Read:
  found = decoding.header(content)
  if found.width * found.height > LARGEST:
    raise UnjudgedError(f'{found.width} x {found.height} pixels: too many')
  if min(found.width, found.height) < SMALLEST:
    raise UnjudgedError(
      f'{found.width} x {found.height} pixels: less than {SMALLEST} a side'
    )
  if found.animated > 1:
    raise UnjudgedError(f'animated: {found.animated} pictures in one')
  decoded = decoding.decode(content)
  notes = '; '.join((*found.notes, *decoded.notes))
  return Read(np.asarray(decoded.image), found.gray, notes)
