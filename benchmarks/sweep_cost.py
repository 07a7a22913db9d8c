"""The cost of a sweep over five epsilons, compared with one run.

  python -m benchmarks.sweep_cost

Whole commands on the ORL faces, each from an empty store: `launch.main` once,
`launch.sweep` with five epsilons on this machine. Writes
`results/cluster/sweep_cost.json`. Ten minutes.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from babam_jax import files
from babam_jax.experiment import environment

_RESULTS = flags.DEFINE_string('results', 'results/cluster', 'A folder.')
_ROUNDS = 2
_SWEEP = """
from configs.sweeps.epsilon import get_config


def sweep(config):
  for epsilon in (0.005, 0.01, 0.02, 0.05, 0.1):
    yield {'defense.noise.epsilon': epsilon}
"""


def _seconds(*command: str) -> float:
  """The seconds of a command, with an empty store."""
  with tempfile.TemporaryDirectory() as folder:
    line = [sys.executable, *command]
    line += [f'--workdir={folder}/run', f'--artifacts={folder}/store']
    start = time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    return round(time.perf_counter() - start, 1)


def main(argv) -> None:
  """Measures both in turn."""
  del argv
  one, five = [], []
  with tempfile.TemporaryDirectory() as folder:
    sweep = pathlib.Path(folder, 'five.py')
    sweep.write_text(_SWEEP)
    run = ('-m', 'launch.main', '--config=configs/orl_multiclass.py')
    _seconds(*run)  # compiles
    for _ in range(_ROUNDS):
      one.append(_seconds(*run))
      five.append(_seconds('-m', 'launch.sweep', f'--config={sweep}'))
  record = {
    'one_run_seconds': one,
    'five_epsilons_seconds': five,
    'ratio': round(statistics.median(five) / statistics.median(one), 3),
    'environment': environment.describe('python -m benchmarks.sweep_cost'),
  }
  files.write_json(pathlib.Path(_RESULTS.value) / 'sweep_cost.json', record)
  print(json.dumps(record))


if __name__ == '__main__':
  app.run(main)
