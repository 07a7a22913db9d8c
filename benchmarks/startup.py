"""The time to the first result of a process, with and without compiled code.

  python -m benchmarks.startup

From the start of Python to two crafting steps (AlexNet, fc7) and to the first
training step (ResNet18, unfrozen). The second run reuses what the first one
compiled.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app

from benchmarks import timing

_CRAFTING = """
from babam_jax.attacks import poison_set
from benchmarks import crafting
crafting._ITERATIONS = 2
crafting.ours(poison_set.SurrogateCollision(tap='fc7').surrogate(0), 2)
"""
_TRAINING = """
from benchmarks import networks
networks.Ours('resnet18', 2).training()
"""
_PROGRAMS = {'crafting': _CRAFTING, 'training': _TRAINING}
_START = """
from babam_jax.cli import command
command.keep_compiled_code()
"""


def _seconds(program: str, cache: str) -> float:
  start = time.perf_counter()
  subprocess.run(
    [sys.executable, '-c', _START + program],
    check=True,
    capture_output=True,
    env=os.environ | {'BABAM_CACHE': cache},
  )
  return time.perf_counter() - start


def main(argv) -> None:
  """Measures first and second runs, each pair with a cache of its own."""
  del argv
  figures = {}
  for name, program in _PROGRAMS.items():
    first, second = [], []
    for _ in range(3):
      with tempfile.TemporaryDirectory() as cache:
        first.append(_seconds(program, cache))
        second.append(_seconds(program, cache))
    ratio = statistics.median(first) / statistics.median(second)
    figures[name] = {
      'first_seconds': timing.summary(first),
      'second_seconds': timing.summary(second),
      'ratio': round(ratio, 2),
    }
  timing.report(figures)


if __name__ == '__main__':
  app.run(main)
