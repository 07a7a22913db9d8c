"""How the benchmarks take time, and on what."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from babam_jax.experiment import environment

REPEATS = 5


def seconds(step: Callable[[], Any], repeats: int = REPEATS) -> list[float]:
  """Wall-clock times of `step()`, after one call that compiles."""
  jax.block_until_ready(step())
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(step())
    times.append(time.perf_counter() - start)
  return times


def rate(items: int, times: list[float]) -> dict[str, float]:
  """Items per second: the median, and the slowest and fastest run."""
  rates = [items / t for t in times]
  return {
    'median': round(statistics.median(rates), 3),
    'least': round(min(rates), 3),
    'most': round(max(rates), 3),
  }


def peak_gflops(size: int = 2048) -> float:
  """The machine's float32 matrix product, best of a few, in GFLOP/s."""
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(lambda x: x @ x)
  best = min(seconds(lambda: product(x), 8))
  return 2 * size**3 / best / 1e9


def peer(interpreter: str, script: str, *arguments: str) -> dict[str, Any]:
  """Runs a peer's benchmark; its last line of output is JSON."""
  ran = subprocess.run(
    [interpreter, script, *arguments],
    capture_output=True,
    text=True,
    check=True,
    env={**os.environ, 'PYTHONWARNINGS': 'ignore'},
  )
  return json.loads(ran.stdout.strip().splitlines()[-1])


def report(name: str, figures: dict[str, Any]) -> dict[str, Any]:
  """Prints one line of JSON: figures, machine, versions."""
  record = {
    'benchmark': name,
    **figures,
    'machine_peak_gflops': round(peak_gflops(), 1),
    'environment': environment.describe(f'python -m benchmarks.{name}'),
  }
  print(json.dumps(record), flush=True)
  return record
