"""`launch.sanitize` on larger and larger folders: files a second, peak memory.

  python -m benchmarks.sanitizing

The files, 500 in a class, are hard links to a hundred JPEG pictures of
250 x 250 pixels. The threshold is chosen so that three in a hundred are flagged
and receive noise (`--action=perturb`, the dearest).
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
  """Makes a folder of class folders with `files` pictures."""
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
  """Runs the command; its seconds and the peak memory of all runs so far."""
  start = time.perf_counter()
  subprocess.run(
    [
      sys.executable,
      '-m',
      'launch.sanitize',
      f'--input={root}',
      f'--output={output}',
      '--link',
      '--action=perturb',
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
  """The command's option that flags three of a hundred pictures."""
  make_folder(root, _DIFFERENT)
  sanitize(root, output, '--action=report')
  lines = (output / 'scores.csv').read_text().splitlines()[1:]
  scores = sorted(float(line.split(',')[2]) for line in lines)
  return f'--threshold={scores[-4]!r}'


def main(argv) -> None:
  """Measures smaller folders first: the peak is that of all runs so far."""
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
