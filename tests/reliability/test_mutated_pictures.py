"""Files that are broken on purpose: read, or refused in one line, in time."""

import io
import time

import numpy as np
import pytest
import tifffile
from mutating import mutated
from PIL import Image

from babam_jax.sanitizer import picture

SECONDS = 2.0  # for a picture of 64 pixels; a second beyond its decoding
MANY = pytest.param(1250, marks=pytest.mark.slow)


def saved(image, kind, **options):
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def as_tiff(**options):
  buffer = io.BytesIO()
  rng = np.random.default_rng(1)
  tifffile.imwrite(
    buffer,
    rng.integers(0, 65536, (64, 64, 3), np.uint16),
    photometric='rgb',
    **options,
  )
  return buffer.getvalue()


def originals():
  rng = np.random.default_rng(0)
  coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
  image = coarse.resize((64, 64), Image.Resampling.BICUBIC)
  exif = image.getexif()
  exif[0x0112], exif[0x010E] = 6, 'a portrait'
  return {
    'jpeg': saved(image, 'JPEG', exif=exif),
    'progressive': saved(image, 'JPEG', progressive=True),
    'png': saved(image, 'PNG', exif=exif),
    'palette': saved(image.quantize(16), 'PNG', transparency=3),
    'webp': saved(image, 'WEBP', exif=exif),
    'bmp': saved(image, 'BMP'),
    'ppm': saved(image, 'PPM'),
    'jpeg2000': saved(image, 'JPEG2000'),
    'tiff': as_tiff(),
    'tiles': as_tiff(compression='zlib', tile=(16, 16), predictor=True),
    'lzw': saved(image, 'TIFF', compression='tiff_lzw', exif=exif),
    'mpo': saved(image, 'MPO', save_all=True, append_images=[image]),
  }


ORIGINALS = originals()


@pytest.mark.parametrize('count', [40, MANY])
@pytest.mark.parametrize('name', ORIGINALS)
def test_a_broken_picture_is_read_or_refused(
  tmp_path, name, count, capfd, record_property
):
  record_property('pictures', count)
  rng = np.random.default_rng(list(ORIGINALS).index(name))
  path = tmp_path / 'x'
  path.write_bytes(ORIGINALS[name])
  assert picture.read(path).pixels.shape == (64, 64, 3)
  for number in range(count):
    content = mutated(rng, ORIGINALS[name], list(ORIGINALS.values()))
    path.write_bytes(content)
    began = time.process_time()
    try:
      found = picture.read(path)
    except picture.UnjudgedError as error:
      told = str(error)
      assert told and '\n' not in told and len(told) < 500, (number, told)
    else:
      assert found.pixels.dtype == np.uint8 and found.pixels.ndim == 3
    assert time.process_time() - began < SECONDS, number
    assert path.read_bytes() == content
  assert not capfd.readouterr().err  # libraries say nothing of their own
