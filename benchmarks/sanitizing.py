"""`launch.sanitize` on larger and larger folders: files a second, peak memory.

  python -m benchmarks.sanitizing

JPEG pictures of 250 x 250 pixels, a hundred of which stand for all by hard
links, 500 to a class. Three in a hundred are flagged, by the threshold, and
receive noise.
"""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags
from PIL import Image

from benchmarks import timing

_SIZES = flags.DEFINE_list('sizes', ['1000', '5000', '50000'], 'Files.')
_DIFFERENT = 100
_PER_CLASS = 500
_SIDE = 250


def make_folder(root: pathlib.Path, files: int) -> None:
  """A folder of class folders with so many pictures."""
  originals = root.parent / 'originals'
  originals.mkdir(exist_ok=True)
  rng = np.random.default_rng(0)
  for i in range(_DIFFERENT):
    path = originals / f'{i}.jpg'
    if not path.exists():
      coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
      size = (_SIDE, _SIDE)
      coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
  for i in range(files):
    folder = root / f'{i // _PER_CLASS:04d}'
    folder.mkdir(parents=True, exist_ok=True)
    os.link(originals / f'{i % _DIFFERENT}.jpg', folder / f'{i}.jpg')


def sanitize(
  root: pathlib.Path, output: pathlib.Path, *options: str
) -> dict[str, float]:
  """Runs the command; its seconds and the largest memory of any so far."""
  start = time.perf_counter()
  subprocess.run(
    [
      sys.executable,
      '-m',
      'launch.sanitize',
      f'--input={root}',
      f'--output={output}',
      '--link',
      *options,
    ],
    check=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  return {
    'seconds': round(time.perf_counter() - start, 1),
    'peak_mib': resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
  }


def threshold(root: pathlib.Path, output: pathlib.Path) -> str:
  """The option that flags three of the pictures in a hundred."""
  make_folder(root, _DIFFERENT)
  sanitize(root, output, '--action=report')
  lines = (output / 'scores.csv').read_text().splitlines()[1:]
  scores = sorted(float(line.split(',')[2]) for line in lines)
  return f'--threshold={scores[-4]!r}'


def main(argv) -> None:
  """Smaller folders first: the peak is that of all so far."""
  del argv
  found = {}
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name)
    option = threshold(base / 'few', base / 'report')
    for size in map(int, _SIZES.value):
      make_folder(base / str(size), size)
      run = sanitize(base / str(size), base / f'{size} clean', option)
      found[str(size)] = run | {
        'files_per_second': round(size / run['seconds'], 1)
      }
  timing.report({'sizes': found})


if __name__ == '__main__':
  app.run(main)
