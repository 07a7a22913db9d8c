"""Reads one picture of an untrusted folder, or says why it cannot be judged."""

import io
import pathlib
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from babam_jax.data import image_folder
from babam_jax.defenses.judging import SMALLEST

LARGEST_FILE = 256 << 20  # bytes
LARGEST = 64_000_000  # pixels
_GRAY_MODES = ('1', 'L', 'LA', 'I', 'I;16', 'I;16B', 'I;16L')


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
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # reported below, or harmless
      return _decode(content)
  except UnjudgedError:
    raise
  except Image.UnidentifiedImageError:
    raise UnjudgedError(
      f'no picture of a known format ({", ".join(image_folder.FORMATS)})'
    ) from None
  except Image.DecompressionBombError:
    raise UnjudgedError('too many pixels') from None
  except OSError as error:
    reason = error.strerror or str(error)
    raise UnjudgedError(f'unreadable ({reason})') from None
  except image_folder.UNREADABLE as error:
    raise UnjudgedError(f'unreadable ({error})') from None


def _decode(content: bytes) -> Read:
  with Image.open(io.BytesIO(content), formats=image_folder.FORMATS) as image:
    width, height = image.size
    if width * height > LARGEST:
      raise UnjudgedError(f'{width} x {height} pixels: too many')
    if min(width, height) < SMALLEST:
      raise UnjudgedError(
        f'{width} x {height} pixels: less than {SMALLEST} a side'
      )
    count, notes = getattr(image, 'n_frames', 1), []
    if image.format == 'MPO':  # a JPEG, followed by previews or depths
      notes.append(f'the first of {count} pictures in the file')
    elif count > 1:
      raise UnjudgedError(f'animated: {count} pictures in one')
    if image.has_transparency_data:
      notes.append('judged without its transparency, which noise removes')
    gray = image.mode in _GRAY_MODES
    if image.mode == 'F' or (image.mode == 'I' and image.format == 'TIFF'):
      raise UnjudgedError('32-bit samples, whose white is not known')
  pixels = np.asarray(image_folder.decode(content))
  return Read(pixels, gray, '; '.join(notes))
