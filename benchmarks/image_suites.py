"""Picture files of other projects' tests: decoded as by another decoder, or
refused by name.

  python -m benchmarks.image_suites --folder=DIR

The folder holds the files, at any depth. The other decoders are tifffile and
imagecodecs, whose conversions to 8-bit RGB are made here anew. One line of JSON
tells how many files of each format are the same, refused, or different, and
names the latter.
"""

import collections
import io
import json
import pathlib
import time
from collections.abc import Callable

import imagecodecs
import numpy as np
import tifffile
from absl import app, flags
from PIL import ExifTags, Image

from babam_jax.data import decoding
from babam_jax.experiment import environment

_FOLDER = flags.DEFINE_string('folder', None, 'Picture files.', required=True)
_SHOWN = 40
_VISIBLE = 64  # of 255: below it, a level of rounding becomes four and more
_LIMIT = 1.0  # seconds of the processor for a file
_TURNS = {
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: np.rot90(x, -1),
  7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
  8: lambda x: np.rot90(x),
}


def _eight_bits(samples: np.ndarray) -> np.ndarray:
  if samples.dtype == bool:
    return np.where(samples, 255, 0).astype(int)
  if samples.dtype.kind != 'u' or samples.itemsize > 2:
    raise NotImplementedError(f'samples of type {samples.dtype}')
  white = np.iinfo(samples.dtype).max
  return np.rint(samples.astype(float) * (255 / white)).astype(int)


def _in_colors(samples: np.ndarray) -> np.ndarray:
  """8-bit RGB of gray, gray with alpha, RGB, or RGB with alpha."""
  levels = _eight_bits(samples)
  if levels.ndim == 2:
    levels = levels[..., None]
  count = levels.shape[2]
  return np.repeat(levels[..., :1], 3, 2) if count < 3 else levels[..., :3]


def _of_tiff(content: bytes) -> np.ndarray:
  with tifffile.TiffFile(io.BytesIO(content)) as file:
    page = file.pages[0]
    samples, name = page.asarray(), page.photometric.name
  if page.planarconfig == 2 and samples.ndim == 3:
    samples = np.moveaxis(samples, 0, -1)
  if name == 'PALETTE':
    places = samples[..., 0] if samples.ndim == 3 else samples
    colors = np.moveaxis(page.colormap, 0, -1)
    return _eight_bits(colors[places.astype(int)].astype(np.uint16))
  if page.bitspersample < 8 * samples.itemsize and samples.dtype != bool:
    white = 2**page.bitspersample - 1
    samples = np.rint(samples * (255 / white)).astype(np.uint8)
  if name == 'SEPARATED':
    inks = _eight_bits(samples)
    black = 255 - inks[..., 3:4]
    return np.rint((255 - inks[..., :3]) * black / 255).astype(int)
  if name in ('CIELAB', 'ICCLAB', 'ITULAB'):
    raise NotImplementedError(name)
  levels = _in_colors(samples)
  if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
    alpha = _eight_bits(samples[..., -1:])
    levels = (levels * 255 / np.maximum(alpha, 1)).clip(0, 255)
    # What cannot be seen, has any color.
    levels = np.where(alpha < _VISIBLE, np.nan, levels)
  return 255 - levels if name == 'MINISWHITE' else levels


def _of_jpeg2000(content: bytes) -> np.ndarray:
  samples = imagecodecs.jpeg2k_decode(content)
  if samples.dtype == np.uint16:  # the file says how many bits
    place = content.index(b'\xff\x51') + 40
    samples = samples.astype(int) * 65535 // ((2 << content[place]) - 1)
    samples = samples.astype(np.uint16)
  return _in_colors(samples)


def _of_jpeg(content: bytes) -> np.ndarray:
  samples = imagecodecs.jpeg8_decode(content)
  if samples.ndim == 3 and samples.shape[2] == 4:
    raise NotImplementedError('CMYK')
  return _in_colors(samples)


DECODERS: dict[str, Callable[[bytes], np.ndarray]] = {
  'TIFF': _of_tiff,
  'JPEG': _of_jpeg,
  'MPO': _of_jpeg,
  'PNG': lambda content: _in_colors(imagecodecs.png_decode(content)),
  'WEBP': lambda content: _in_colors(imagecodecs.webp_decode(content)),
  'BMP': lambda content: _in_colors(imagecodecs.bmp_decode(content)),
  'JPEG2000': _of_jpeg2000,
}


def _format(path: pathlib.Path) -> tuple[str, int]:
  """The format of a picture that is decoded, and how it is to be turned."""
  with Image.open(path) as image:
    turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    return str(image.format), turn


def decoded(path: pathlib.Path) -> np.ndarray | str:
  """A picture as we decode it, or why it is refused."""
  try:
    found = decoding.decode(path.read_bytes())
  except decoding.UnreadableError as error:
    return str(error)
  return np.asarray(found.image).astype(int)


def judge(path: pathlib.Path, ours: np.ndarray | str) -> tuple[str, str, str]:
  """The format of a file; 'same', 'refused', 'different' or 'alone' (no other
  decoder reads it); and what there is to say of it."""
  if isinstance(ours, str):
    return path.suffix.lower() or 'no suffix', 'refused', ours
  name, turn = _format(path)
  try:
    theirs = DECODERS[name](path.read_bytes())
  except Exception as error:  # they may not know the kind
    return name, 'alone', f'{type(error).__name__}: {str(error)[:80]}'
  theirs = _TURNS.get(turn, lambda x: x)(theirs)
  if ours.shape != theirs.shape:
    return name, 'different', f'{ours.shape} beside {theirs.shape}'
  change = np.abs(ours - theirs)
  if np.isnan(change).all():
    return name, 'alone', 'nothing of it can be seen'
  most, mean = np.nanmax(change), np.nanmean(change)
  if most <= 1:
    return name, 'same', ''
  return name, 'different', f'by {most:.0f}, {mean:.2f} on average'


def main(argv: list[str]) -> None:
  """Prints one line of JSON."""
  del argv
  root = pathlib.Path(_FOLDER.value)
  counts: dict[str, collections.Counter[str]] = {}
  told: dict[str, list[tuple[str, str]]] = {}
  slow = []
  for path in sorted(path for path in root.rglob('*') if path.is_file()):
    start = time.process_time()
    ours = decoded(path)
    seconds = time.process_time() - start
    if seconds > _LIMIT:
      slow.append((str(path.relative_to(root)), round(seconds, 2)))
    name, verdict, what = judge(path, ours)
    counts.setdefault(name, collections.Counter())[verdict] += 1
    told.setdefault(verdict, []).append((str(path.relative_to(root)), what))
  print(
    json.dumps(
      {
        'counts': {name: dict(found) for name, found in sorted(counts.items())},
        'total': {verdict: len(found) for verdict, found in told.items()},
        'different': told.get('different', [])[:_SHOWN],
        'alone': told.get('alone', [])[:_SHOWN],
        'slow': slow,
        'environment': environment.describe(
          'python -m benchmarks.image_suites --folder=DIR'
        ),
      }
    )
  )


if __name__ == '__main__':
  app.run(main)
