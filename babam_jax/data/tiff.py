"""What TIFFs say of their samples, and which of them Pillow misreads.

TIFF 6.0: samples may be signed or real, in planes, of 1 to 64 bits, and 0 may
be white. Pillow takes some variants for what they are not.
"""

import contextlib
import ctypes
import functools
import pathlib
import struct
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

# Tags (TIFF 6.0, part 1 and 2; sample format: section 19).
_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_SAMPLES, _PLANAR, _PREDICTOR = 277, 284, 317
_FORMAT, _SUBSAMPLING = 339, 530
_UNCOMPRESSED, _PACKBITS = 1, 32773
_SEPARATE = 2
_WHITE_IS_ZERO, _YCBCR = 0, 6
_FORMATS = {1: 'unsigned', 2: 'signed', 3: 'real', 4: 'untyped', 5: 'complex'}
_PHOTOMETRICS = {
  0: 'white-is-zero gray',
  1: 'gray',
  2: 'RGB',
  3: 'palette',
  4: 'mask',
  5: 'CMYK',
  6: 'YCbCr',
  8: 'CIELAB',
  9: 'ICCLAB',
  10: 'ITULAB',
  32803: 'a color filter array',
  34892: 'linear raw',
}
_COMPRESSIONS = {
  1: 'uncompressed',
  2: 'CCITT',
  3: 'CCITT',
  4: 'CCITT',
  5: 'LZW',
  6: 'old JPEG',
  7: 'JPEG',
  8: 'deflate',
  32946: 'deflate',
  32773: 'PackBits',
  34712: 'JPEG 2000',
  34925: 'LZMA',
  50000: 'Zstandard',
  50001: 'WebP',
  50002: 'JPEG XL',
}
_MOST_ENTRIES = 512  # of a directory; real ones have some twenty
# Struct codes of the types BYTE, SHORT, LONG, LONG8.
_TYPES = {1: 'B', 3: 'H', 4: 'I', 16: 'Q'}


@functools.cache
def silence() -> None:
  """Keeps libtiff, which Pillow brings along, from printing what it thinks of a
  broken file: Pillow raises it, too. Does nothing where it is not found."""
  maps = pathlib.Path('/proc/self/maps')
  if not maps.exists():  # not on Linux
    return
  lines = maps.read_text('utf-8', 'replace').splitlines()
  loaded = {line.split()[-1] for line in lines if 'libtiff' in line}
  for path in loaded:
    with contextlib.suppress(OSError, AttributeError):
      library = ctypes.CDLL(path)
      for name in ('TIFFSetErrorHandler', 'TIFFSetWarningHandler'):
        getattr(library, name)(None)


def _first(value: object, default: int) -> int:
  """The first of a tag's numbers."""
  if isinstance(value, tuple | list):
    value = value[0] if value else default
  return value if isinstance(value, int) else default


def misread(image: Image.Image) -> str:
  """What Pillow misreads in an opened picture; '' if nothing is known."""
  if not isinstance(image, TiffImageFile):
    return ''
  tags = image.tag_v2
  kind = _first(tags.get(_FORMAT), 1)
  bits = _first(tags.get(_BITS), 1)
  if kind != 1:
    name = _FORMATS.get(kind, f'unknown ({kind})')
    return f'TIFF with {name} samples of {bits} bits, whose white is not known'
  if bits > 16:
    return f'TIFF with {bits}-bit samples, whose white is not known'
  packing = _first(tags.get(_COMPRESSION), _UNCOMPRESSED)
  raw = packing in (_UNCOMPRESSED, _PACKBITS)
  if raw and _first(tags.get(_PREDICTOR), 1) != 1:
    return 'TIFF with a predictor but no compression'
  separate = _first(tags.get(_PLANAR), 1) == _SEPARATE
  several = _first(tags.get(_SAMPLES), 1) > 1
  if raw and separate and several and bits > 8:
    return f'TIFF with uncompressed {bits}-bit samples in separate planes'
  if separate and image.mode == 'La':  # the alpha is not read
    return 'TIFF with gray and the alpha it is multiplied by in separate planes'
  photometric = _first(tags.get(_PHOTOMETRIC), _WHITE_IS_ZERO)
  subsampling = tuple(tags.get(_SUBSAMPLING, (2, 2)))
  if raw and several and photometric == _YCBCR and subsampling != (1, 1):
    return 'TIFF with uncompressed YCbCr of fewer color samples'
  return ''


def white(image: Image.Image) -> int:
  """The gray sample that stands for white; negative: 0 is white, and that one
  is black. 65535 for other formats, whose samples Pillow scales."""
  if not isinstance(image, TiffImageFile):
    return 65535
  largest = (1 << _first(image.tag_v2.get(_BITS), 16)) - 1
  photometric = _first(image.tag_v2.get(_PHOTOMETRIC), _WHITE_IS_ZERO)
  return -largest if photometric == _WHITE_IS_ZERO else largest


def describe(content: bytes) -> str:
  """The first picture's samples in words, read without trusting the file."""
  tags = _tags(content)
  bits = tags.get(_BITS, 1)
  kind = _FORMATS.get(tags.get(_FORMAT, 1), 'unknown')
  photometric = tags.get(_PHOTOMETRIC, -1)
  packing = tags.get(_COMPRESSION, _UNCOMPRESSED)
  planes = ', in planes' if tags.get(_PLANAR) == _SEPARATE else ''
  shown = _PHOTOMETRICS.get(photometric, f'photometric {photometric}')
  packed = _COMPRESSIONS.get(packing, f'compression {packing}')
  count = tags.get(_SAMPLES, 1)
  samples = f'{count} {kind} sample{"s" * (count > 1)}'
  each = f'{bits} bit{"s" * (bits > 1)}'
  return f'{samples} of {each}, {shown}, {packed}{planes}'


class _Layout(NamedTuple):
  """How numbers are stored: struct's codes.

  Attributes:
    order: of the bytes.
    offset: a place in the file.
    count: the number of entries of a directory.
  """

  order: str
  offset: str
  count: str

  @property
  def entry(self) -> str:
    """A tag, its type, the number of its values."""
    return f'{self.order}HH{self.offset}'

  @property
  def entry_size(self) -> int:
    """Bytes of an entry; the value, or its place, comes last."""
    return struct.calcsize(self.entry) + struct.calcsize(self.offset)


def _layout(content: bytes) -> _Layout:
  order = '<' if content[:2] == b'II' else '>'
  is_big = content[2:4] in (b'+\0', b'\0+')
  return _Layout(order, *('QQ' if is_big else 'IH'))


def _directory(content: bytes, layout: _Layout) -> tuple[int, int]:
  """Where the first directory's entries begin, and how many there are."""
  order, offset, count = layout
  begins = 8 if offset == 'Q' else 4
  (place,) = struct.unpack_from(order + offset, content, begins)
  (entries,) = struct.unpack_from(order + count, content, place)
  return place + struct.calcsize(count), entries


def pages(content: bytes) -> int:
  """1 if the file has one page, 2 if it has any more."""
  layout = _layout(content)
  try:
    place, entries = _directory(content, layout)
    after = place + entries * layout.entry_size
    (following,) = struct.unpack_from(
      layout.order + layout.offset, content, after
    )
  except (struct.error, OverflowError):
    return 1  # the file ends there
  return 2 if following else 1


def _tags(content: bytes) -> dict[int, int]:
  """The first number of each tag of the first directory."""
  layout = _layout(content)
  found: dict[int, int] = {}
  try:
    place, entries = _directory(content, layout)
    for number in range(min(entries, _MOST_ENTRIES)):
      here = place + number * layout.entry_size
      tag, kind, count = struct.unpack_from(layout.entry, content, here)
      if kind not in _TYPES or not count:
        continue
      value = here + struct.calcsize(layout.entry)
      if count * struct.calcsize(_TYPES[kind]) > struct.calcsize(layout.offset):
        (value,) = struct.unpack_from(
          layout.order + layout.offset, content, value
        )
      (found[tag],) = struct.unpack_from(
        layout.order + _TYPES[kind], content, value
      )
  except (struct.error, OverflowError):
    pass  # what has been found until here
  return found
