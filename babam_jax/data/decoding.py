"""From the bytes of a picture file to upright 8-bit RGB: rightly, or refused.

Pillow decodes. What it is known to decode wrongly is refused by name: some
TIFFs (`tiff.py`), and samples of which nobody knows what white is.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from PIL import ExifTags, Image

from babam_jax import memory
from babam_jax.data import tiff

# Pillow's names of the formats.
FORMATS = ('JPEG', 'PNG', 'PPM', 'BMP', 'WEBP', 'TIFF', 'JPEG2000')
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_GRAY_MODES = ('1', 'L', 'LA', 'La', 'I', 'I;16', 'I;16B', 'I;16L')
_SENSOR_BITS = 12  # the most of sensors whose samples are stored in 16
_ROWS = 256  # converted at a time: no large copies
# How files of a format begin; to name what cannot be decoded.
_BEGINNINGS = (
  (b'\xff\xd8\xff', 'JPEG'),
  (b'\x89PNG\r\n\x1a\n', 'PNG'),
  (b'BM', 'BMP'),
  (b'II*\0', 'TIFF'),
  (b'MM\0*', 'TIFF'),
  (b'II+\0', 'TIFF'),
  (b'MM\0+', 'TIFF'),
  (b'\0\0\0\x0cjP  ', 'JPEG 2000'),
  (b'\xff\x4f\xff\x51', 'JPEG 2000'),
  (b'GIF8', 'GIF, which is none of the formats'),
  (b'%PDF', 'PDF, which is no picture'),
)


class UnreadableError(ValueError):
  """The file is no picture that can be decoded; the message says why."""


class Header(NamedTuple):
  """What a file says of its picture, before anything is decoded.

  Attributes:
    width: pixels, as they are stored.
    height: the same.
    gray: whether it has no colors.
    animated: the number of pictures in it, if they are one after the other;
      of a TIFF 2 for any number above 1.
    notes: remarks about the file.
  """

  width: int
  height: int
  gray: bool
  animated: int
  notes: tuple[str, ...]


class Decoded(NamedTuple):
  """A picture.

  Attributes:
    image: upright 8-bit RGB.
    notes: remarks about its samples.
  """

  image: Image.Image
  notes: tuple[str, ...]


def header(content: bytes) -> Header:
  """Reads what the file says of its picture.

  Raises:
    UnreadableError: it is no picture, or none that is decoded rightly.
  """
  with _opened(content) as image:
    # Of a TIFF's pages only the second is looked for: they may be many.
    is_tiff, notes = image.format == 'TIFF', []
    count = tiff.pages(content) if is_tiff else getattr(image, 'n_frames', 1)
    if image.format == 'MPO':  # a JPEG, followed by previews or depths
      notes.append(f'the first of {count} pictures in the file')
      count = 1
    if image.has_transparency_data:
      notes.append('judged without its transparency, which noise removes')
    gray = image.mode in _GRAY_MODES
    return Header(*image.size, gray, count, tuple(notes))


def decode(content: bytes) -> Decoded:
  """Decodes a picture file's content.

  Raises:
    UnreadableError: it is no picture, truncated, too large, or none that is
      decoded rightly.
  """
  with _opened(content) as image:
    deep = ';16' in str(getattr(image, 'tile', ''))
    image.load()
    notes = _notes_on_samples(image, deep)
    whole = _to_eight_bits(_upright(image), tiff.white(image))
    if whole.mode == 'La':
      whole = whole.convert('LA')
    if whole.mode in ('P', 'PA', 'LA', 'RGBA', 'RGBa'):
      whole = whole.convert('RGBA')  # a palette may carry transparency
    return Decoded(whole.convert('RGB'), notes)


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
  """Opens a picture; tells in one way whatever is wrong with it."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # of malformed tags, which do not matter
      warnings.simplefilter('error', Image.DecompressionBombWarning)
      tiff.silence()
      with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _refuse_unknown_white(image)
        yield image
  except UnreadableError:
    raise
  except MemoryError:
    if not memory.is_there():
      raise
    raise UnreadableError('asks for more memory than it needs') from None
  except Image.UnidentifiedImageError:
    raise UnreadableError(_unidentified(content)) from None
  except (Image.DecompressionBombError, Image.DecompressionBombWarning):
    raise UnreadableError('too many pixels') from None
  except Exception as error:
    # Pillow's readers raise whatever comes up, even failed assertions: one file
    # must not end the work on all others.
    name = _format_of(content)
    what = f'{name}: ' if name else ''
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise UnreadableError(f'unreadable ({what}{reason})') from None


def _refuse_unknown_white(image: Image.Image) -> None:
  """Refuses samples that Pillow misreads, or that have no known white."""
  reason = tiff.misread(image)
  if not reason and image.mode == 'F':
    reason = '32-bit samples, whose white is not known'
  if reason:
    raise UnreadableError(reason)


def _upright(image: Image.Image) -> Image.Image:
  """Turns a picture as its EXIF tag says. `ImageOps.exif_transpose` would also
  rewrite the other tags, and fail where one of them is malformed."""
  turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
  return image if turn is None else image.transpose(turn)


def _to_eight_bits(image: Image.Image, white: int) -> Image.Image:
  """Scales gray of more than 8 bits; Pillow's own conversion would clip it.

  Args:
    image: any picture.
    white: the sample that is white, as a multiple of which gray is scaled; a
      negative one where 0 is white.
  """
  if not image.mode.startswith('I'):
    return image
  values = np.asarray(image)
  scaled = np.empty(values.shape, np.uint8)
  for start in range(0, len(values), _ROWS):
    rows = slice(start, start + _ROWS)
    scaled[rows] = _scaled(values[rows], abs(white))
  return Image.fromarray(255 - scaled if white < 0 else scaled)


def _scaled(
  values: Shaped[np.ndarray, 'n w'], white: int
) -> Shaped[np.ndarray, 'n w']:
  wide = values.astype(np.float32) * np.float32(255 / white)
  return np.rint(wide).clip(0, 255).astype(np.uint8)


def _notes_on_samples(image: Image.Image, deep: bool) -> tuple[str, ...]:
  """Tells of 16-bit samples of which the upper bits are never used: sensors
  with 10 or 12 bits write them so, and the picture is all but black.

  Args:
    image: the loaded picture.
    deep: whether its file has 16 bits for each sample.
  """
  if not deep:
    return ()
  if image.mode.startswith('I'):
    bits = int(np.max(image.getextrema())).bit_length()
  else:  # Pillow keeps the upper 8 bits of colors
    bits = 8 + int(np.max(image.convert('RGB').getextrema())).bit_length()
  if bits > _SENSOR_BITS:
    return ()
  return (f'uses {bits} of 16 bits: judged as dark as it is',)


def _format_of(content: bytes) -> str:
  """The format by the file's first bytes, or ''."""
  if content[:4] == b'RIFF' and content[8:12] == b'WEBP':
    return 'WebP'
  if content[4:12] in (b'ftypheic', b'ftypavif', b'ftypmif1'):
    return 'HEIF or AVIF, which is none of the formats'
  names = (name for start, name in _BEGINNINGS if content.startswith(start))
  return next(names, '')


def _unidentified(content: bytes) -> str:
  """Why Pillow does not open a file: which format it is, and what of it."""
  name = _format_of(content)
  if name == 'TIFF':
    return f'TIFF of a kind that is not decoded: {tiff.describe(content)}'
  if name == 'JPEG':
    bits = _jpeg_precision(content)
    if bits and bits != 8:
      return f'JPEG with {bits} bits a sample, which is not decoded'
  if name:
    return f'damaged, or of a kind that is not decoded: {name}'
  return f'no picture of a known format ({", ".join(FORMATS)})'


def _jpeg_precision(content: bytes) -> int | None:
  """Bits per sample, from the frame header; None if there is none."""
  place = 2
  while place + 5 <= len(content) and content[place] == 0xFF:
    marker = content[place + 1]
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return content[place + 4]
    place += 2 + int.from_bytes(content[place + 2 : place + 4], 'big')
  return None
