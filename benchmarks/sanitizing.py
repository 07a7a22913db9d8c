"""`launch.sanitize`: files a second, memory, its cost in the number of files.

  python -m benchmarks.sanitizing

The files are hard links to a hundred JPEG pictures, 500 in a class. First more
and more of 64 x 64 pixels; the threshold is chosen so that three in a hundred
are flagged and receive noise (`--action=perturb`, the dearest). Then, with the
default action, 1,500 files of 250 x 250 in one class, in classes of 50 and in
one class each, and 300 of 500 x 375. At last what one picture takes of each
step, on one core but for the PIRM.
"""

import functools
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags
from PIL import Image

from babam_jax import cpu
from babam_jax.defenses import any_size, pirm
from babam_jax.recurrence import look
from babam_jax.sanitizer import folder, output, picture
from benchmarks import timing

_SIZES = flags.DEFINE_list('sizes', ['1000', '10000', '100000'], 'Files.')
_DIFFERENT = 100
_PER_CLASS = 500
_SMALL, _SIZE, _LARGER = (64, 64), (250, 250), (500, 375)
_FEW, _LARGER_FEW = 1500, 300
_STEP_REPEATS = 3
_PICTURES = 32


def make_folder(
  root: pathlib.Path,
  files: int,
  per_class: int = _PER_CLASS,
  size: tuple[int, int] = _SIZE,
) -> None:
  """Makes a folder of class folders with `files` pictures."""
  originals = root.parent / f'originals {size}'
  originals.mkdir(exist_ok=True)
  rng = np.random.default_rng(0)
  for i in range(_DIFFERENT):
    path = originals / f'{i}.jpg'
    if not path.exists():
      coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
      coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
  for i in range(files):
    place = root / f'{i // per_class:06d}'
    place.mkdir(parents=True, exist_ok=True)
    os.link(originals / f'{i % _DIFFERENT}.jpg', place / f'{i}.jpg')


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
  make_folder(root, _DIFFERENT, size=_SMALL)
  sanitize(root, output, '--action=report')
  lines = (output / 'scores.csv').read_text().splitlines()[1:]
  scores = sorted(float(line.split(',')[2].strip('"')) for line in lines)
  return f'--threshold={scores[-4]!r}'


def by_size(base: pathlib.Path) -> dict[str, object]:
  """Larger and larger folders: the peak is that of all runs so far."""
  option = threshold(base / 'few', base / 'report')
  make_folder(base / 'one', 1, size=_SMALL)
  begun = sanitize(base / 'one', base / 'one clean')['seconds']
  found = {}
  for size in map(int, _SIZES.value):
    make_folder(base / str(size), size, size=_SMALL)
    run = sanitize(
      base / str(size),
      base / f'{size} clean',
      '--link',
      '--action=perturb',
      option,
    )
    found[size] = run | {'files_per_second': round(size / run['seconds'], 1)}
  slope = np.polyfit(
    np.log(list(found)),
    np.log([run['seconds'] - begun for run in found.values()]),
    1,
  )[0]
  return {
    'sizes': {str(size): run for size, run in found.items()},
    'seconds_of_one_file': begun,
    # Of the logarithm of the seconds less those of one file.
    'slope': round(float(slope), 3),
  }


def by_layout(base: pathlib.Path) -> dict[str, float]:
  """Files a second, beginning and end included."""
  cases = {
    'one class': (_FEW, _FEW, _SIZE),
    'classes of 50': (_FEW, 50, _SIZE),
    'one file a class': (_FEW, 1, _SIZE),
    '500 x 375': (_LARGER_FEW, 100, _LARGER),
  }
  rates = {}
  for name, (files, per_class, size) in cases.items():
    make_folder(base / name, files, per_class, size)
    seconds = sanitize(base / name, base / f'{name} clean')['seconds']
    rates[name] = round(files / seconds, 1)
  return rates


def by_step(base: pathlib.Path, size: tuple[int, int]) -> dict[str, float]:
  """Milliseconds of one picture."""
  root = base / f'steps {size}'
  make_folder(root, _PICTURES, size=size)
  paths = sorted(root.rglob('*.jpg'))
  pictures = [picture.read(path).pixels for path in paths]
  model = pirm.load_pirm('general')
  views = [any_size.views(model.variant, one) for one in pictures]
  copied = output.Output(root, base / f'steps {size} clean', {})
  copied.begin(folder.inventory(root))
  steps: dict[str, Callable[[], object]] = {
    'decoding': lambda: [picture.read(path) for path in paths],
    'the PIRM, on all cores': lambda: any_size.score(model, views),
    'what may recur': lambda: [look.look(one) for one in pictures],
    'copying': lambda: [
      copied.copy(pathlib.PurePosixPath(path.relative_to(root)), False)
      for path in paths
    ],
  }
  return {
    name: round(1000 * min(timing.seconds(step, _STEP_REPEATS)) / _PICTURES, 2)
    for name, step in steps.items()
  }


def main(argv) -> None:
  """Prints all."""
  del argv
  cpu.configure()
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name)
    steps = functools.partial(by_step, base)
    timing.report(
      by_size(base)
      | {'files_per_second': by_layout(base)}
      | {
        'milliseconds': {
          f'{width} x {height}': steps((width, height))
          for width, height in (_SIZE, _LARGER)
        }
      }
    )


if __name__ == '__main__':
  app.run(main)
