"""What an experiment costs, by its number of pictures.

  python -m benchmarks.experiment_growth

Whole commands, each from an empty store: `launch.main` on hard links to a
hundred JPEG pictures of 64 x 64 pixels, 500 in a class: read, poisoned
(BadNets), trained on, judged by the PIRM, treated, trained on again. The slope
is that of the logarithm of the seconds, less those of the fewest pictures.
Twenty minutes.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

from benchmarks import sanitizing, timing

_SIZES = flags.DEFINE_list('files', ['1000', '10000', '100000'], 'Pictures.')
_FEWEST = 200
_PER_CLASS, _SIDE = 500, 64
_OPTIONS = (
  '--config=configs/common.py',
  '--config.data.name=image_folder',
  f'--config.data.size={_SIDE}',
  '--config.scenario.source=000000',
  '--config.scenario.target=000001',
  '--config.scenario.poison_images=50',
  '--config.attack.kind=badnets',
  '--config.recognizer.frozen=all_but_last',
  '--config.recognizer.epochs=2',
)


def experiment(base: pathlib.Path, count: int) -> dict[str, float]:
  """Runs it on so many pictures: seconds, and the peak memory of all so far."""
  root = base / str(count)
  per_class = min(_PER_CLASS, count // 2)
  sanitizing.make_folder(root, count, per_class, (_SIDE, _SIDE))
  place = [f'--workdir={root} run', f'--artifacts={root} store']
  start = time.perf_counter()
  subprocess.run(
    [
      sys.executable,
      '-m',
      'launch.main',
      *_OPTIONS,
      f'--config.data.root={root}',
      *place,
    ],
    check=True,
    capture_output=True,
  )
  return {
    'seconds': round(time.perf_counter() - start, 1),
    'peak_mib': resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
  }


def main(argv) -> None:
  """Prints all."""
  del argv
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name)
    begun = experiment(base, _FEWEST)['seconds']
    found = {size: experiment(base, size) for size in map(int, _SIZES.value)}
  seconds = [run['seconds'] - begun for run in found.values()]
  slope = np.polyfit(np.log(list(found)), np.log(seconds), 1)[0]
  timing.report(
    {
      'pictures': {str(size): run for size, run in found.items()},
      f'seconds_of_{_FEWEST}_pictures': begun,
      'slope': round(float(slope), 3),
    }
  )


if __name__ == '__main__':
  app.run(main)
