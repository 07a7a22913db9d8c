"""Time to the first result of a process, with and without compiled code there.

  python -m benchmarks.startup

From the start of Python to the first crafting step (AlexNet, fc7) and the first
training step (ResNet18, unfrozen). The second run finds what the first one
compiled.
"""

import os
import subprocess
import sys
import tempfile
import time

from absl import app

from benchmarks import timing

_CRAFTING = """
from babam_jax.attack import poison_set
from benchmarks import crafting
crafting._ITERATIONS = 2
crafting.ours(poison_set.surrogate('alexnet', 'fc7', 'trunk', 0), 2)
"""
_TRAINING = """
from benchmarks import networks
networks.Ours('resnet18', 2).training()
"""
_PROGRAMS = {'crafting': _CRAFTING, 'training': _TRAINING}
_START = """
from launch import command
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
  """First and second run, with a cache of their own."""
  del argv
  figures = {}
  for name, program in _PROGRAMS.items():
    with tempfile.TemporaryDirectory() as cache:
      first = _seconds(program, cache)
      second = min(_seconds(program, cache) for _ in range(3))
    figures[name] = {
      'first_seconds': round(first, 2),
      'second_seconds': round(second, 2),
      'ratio': round(first / second, 2),
    }
  timing.report(figures)


if __name__ == '__main__':
  app.run(main)
