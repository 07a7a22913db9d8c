"""Every variant of a picture file is decoded rightly, or refused by name."""

import io
import itertools
import struct
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from babam_jax.data import decoding

HEIGHT, WIDTH = 48, 64


def pattern():
  rows, columns = np.mgrid[:HEIGHT, :WIDTH]
  waves = (np.sin(columns / 9) + np.cos(rows / 7) + 2) / 4
  return (waves * 255).round().astype(np.uint8)


GRAY = pattern()
RGB = np.stack([GRAY, GRAY[::-1], np.roll(GRAY, 11, 1)], -1)
CMYK = np.concatenate([255 - RGB, np.zeros_like(RGB[..., :1])], -1)
SAMPLES = {
  'bool': lambda levels: levels > 127,
  'u1': lambda levels: levels,
  'u2': lambda levels: levels.astype('u2') * 257,
  'u4': lambda levels: levels.astype('u4') * 16843009,
  'i1': lambda levels: (levels.astype(int) - 128).astype('i1'),
  'i2': lambda levels: (levels.astype(int) * 257 - 32768).astype('i2'),
  'i4': lambda levels: (levels.astype('i8') * 16843009 - 2**31).astype('i4'),
  'f2': lambda levels: (levels / 255).astype('f2'),
  'f4': lambda levels: (levels / 255).astype('f4'),
  'f8': lambda levels: levels / 255,
}
INKS = {
  'minisblack': (GRAY, GRAY),
  'miniswhite': (255 - GRAY, GRAY),
  'rgb': (RGB, RGB),
  'separated': (CMYK, RGB),
}
PACKINGS = (None, 'zlib', 'lzw', 'packbits', 'zstd', 'lzma', 'jpeg2000')


def tiff(samples, **options):
  buffer = io.BytesIO()
  tifffile.imwrite(buffer, samples, **options)
  return buffer.getvalue()


def decoded(content):
  return np.asarray(decoding.decode(content).image)


def in_colors(levels):
  return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, -1)


@pytest.mark.parametrize('kind', SAMPLES)
def test_tiffs_are_right_or_refused(kind):
  right = 0
  for ink, packing, planes, order, tile in itertools.product(
    INKS, PACKINGS, ('contig', 'separate'), '<>', (None, (16, 16))
  ):
    levels, expected = INKS[ink]
    if planes == 'separate':
      if levels.ndim == 2:
        continue
      levels = np.moveaxis(levels, -1, 0)
    samples = SAMPLES[kind](levels)
    if kind == 'bool':
      expected = np.where(expected > 127, 255, 0)
    options = {'planarconfig': planes} if levels.ndim == 3 else {}
    try:
      content = tiff(
        samples,
        photometric=ink,
        compression=packing,
        byteorder=order,
        tile=tile,
        **options,
      )
    except (ValueError, KeyError, NotImplementedError):
      continue  # such files do not exist, for tifffile
    try:
      found = decoded(content)
    except decoding.UnreadableError as error:
      assert 'TIFF' in str(error) or 'of a kind' in str(error), str(error)
      continue
    right += 1
    change = np.abs(found.astype(int) - in_colors(expected))
    assert change.max() <= 1, (ink, packing, planes, order, tile)
  # Usual samples are not refused altogether.
  assert right >= {'bool': 40, 'u1': 100, 'u2': 60}.get(kind, 0)


@pytest.mark.parametrize('bits', [2, 4, 12])
def test_tiffs_with_other_numbers_of_bits(bits):
  levels = np.linspace(0, 2**bits - 1, WIDTH).round().astype('u2')
  samples = np.repeat(levels[None], HEIGHT, 0)
  stored = samples.astype('u1') if bits <= 8 else samples
  content = tiff(stored, bitspersample=bits, photometric='minisblack')
  expected = in_colors(samples * (255 / (2**bits - 1)))
  assert np.abs(decoded(content) - expected).max() <= 1


def test_a_tiff_of_jpegs_is_as_another_decoder_has_it():
  content = tiff(RGB, photometric='rgb', compression='jpeg')
  expected = tifffile.imread(io.BytesIO(content)).astype(int)
  assert np.abs(decoded(content) - expected).max() <= 1


def test_gray_under_its_own_alpha():
  samples = np.stack([GRAY // 2, np.full_like(GRAY, 128)], -1)
  content = tiff(samples, photometric='minisblack', extrasamples=['assocalpha'])
  change = np.abs(decoded(content).astype(int) - in_colors(GRAY))
  assert change.max() <= 2  # half of the levels were lost in the file


@pytest.mark.parametrize(
  'levels,bits', [(GRAY.astype('u2') * 16, 12), (GRAY.astype('u2') * 4, 10)]
)
@pytest.mark.parametrize('colors', [False, True])
def test_unused_upper_bits_are_told(levels, bits, colors):
  stored = in_colors(levels) if colors else levels
  content = tiff(stored, photometric='rgb' if colors else 'minisblack')
  (note,) = decoding.decode(content).notes
  assert note.startswith(f'uses {bits} of 16 bits')
  full = tiff(stored * 16, photometric='rgb' if colors else 'minisblack')
  if bits == 12:
    assert not decoding.decode(full).notes


def test_of_a_chain_of_pages_only_the_second_is_looked_for():
  """Each page is a directory of one entry; the last names none."""
  head = tiff(GRAY, photometric='minisblack')
  whole = bytearray(head + b'\0' * (len(head) % 2))
  (start,) = struct.unpack_from('<I', whole, 4)
  (entries,) = struct.unpack_from('<H', whole, start)
  place, size = len(whole), 2 + 12 + 4
  struct.pack_into('<I', whole, start + 2 + 12 * entries, place)
  count = 30_000
  for page in range(1, count + 1):
    following = place + page * size if page < count else 0
    whole += struct.pack('<HHHIII', 1, 254, 4, 1, 0, following)
  began = time.process_time()
  found = decoding.header(bytes(whole))
  assert time.process_time() - began < 1
  assert found.animated == 2
  assert decoding.header(head).animated == 1
  big = tiff(np.stack([GRAY, GRAY]), photometric='minisblack', bigtiff=True)
  assert decoding.header(big).animated == 2


def jpeg(picture=RGB, **options):
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, 'JPEG', **options)
  return buffer.getvalue()


def test_the_message_says_which_format_and_what_of_it():
  twelve = bytearray(jpeg())
  frame = twelve.index(b'\xff\xc0')
  twelve[frame + 4] = 12
  for content, told in (
    (bytes(twelve), 'JPEG with 12 bits a sample'),
    (jpeg()[:20], 'JPEG'),
    (tiff(SAMPLES['f8'](RGB), photometric='rgb'), '3 real samples of 64 bits'),
    (tiff(GRAY)[:100], 'TIFF'),
    (b'GIF89a' + bytes(50), 'GIF'),
    (b'\0\0\0\x18ftypheic' + bytes(50), 'HEIF'),
    (b'text', 'no picture of a known format'),
    (b'', 'no picture of a known format'),
  ):
    with pytest.raises(decoding.UnreadableError, match=told):
      decoding.decode(content)


def test_the_first_picture_of_a_camera_counts(tmp_path):
  preview = Image.fromarray(RGB[::2, ::2])
  Image.fromarray(RGB).save(
    tmp_path / 'a.mpo', save_all=True, append_images=[preview]
  )
  content = (tmp_path / 'a.mpo').read_bytes()
  found = decoding.header(content)
  assert found.animated == 1 and 'first of 2' in found.notes[0]
  assert decoding.decode(content).image.size == (WIDTH, HEIGHT)


def test_an_uncompressed_tiff_with_a_predictor():
  """Readers disagree on whether it is applied."""
  tag = (65000, 3, 1, 2)
  content = tiff(GRAY, photometric='minisblack', extratags=[tag])
  before, after = (
    struct.pack('<HHI', number, *tag[1:3]) for number in (tag[0], 317)
  )
  assert content.count(before) == 1
  content = content.replace(before, after)
  with pytest.raises(decoding.UnreadableError, match='a predictor'):
    decoded(content)


@pytest.mark.parametrize('planes', ['contig', 'separate'])
def test_gray_and_its_alpha_in_planes(planes):
  samples = np.stack([GRAY // 2, np.full_like(GRAY, 128)], -1)
  if planes == 'separate':
    samples = np.moveaxis(samples, -1, 0)
  content = tiff(
    samples,
    photometric='minisblack',
    extrasamples=['assocalpha'],
    planarconfig=planes,
    compression='packbits',
  )
  try:
    change = np.abs(decoded(content).astype(int) - in_colors(GRAY))
  except decoding.UnreadableError as error:
    assert planes == 'separate' and 'in separate planes' in str(error)
  else:
    assert change.max() <= 2
