"""What the benchmarks share: timing, peers, and the report of the machine."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from babam_jax.experiment import environment

PEER = flags.DEFINE_string(
  'peer', None, 'A Python with torch, torchvision and ART; none: no peers.'
)
PEERS = flags.DEFINE_string(
  'peers', '../shared/bench', 'The folder of the peer scripts.'
)
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


def summary(rates: list[float]) -> dict[str, float]:
  """The median, the minimum and the maximum of measurements."""
  return {
    'median': round(statistics.median(rates), 3),
    'least': round(min(rates), 3),
    'most': round(max(rates), 3),
  }


def rate(items: int, times: list[float]) -> dict[str, float]:
  """Items per second: the median, and the slowest and fastest run."""
  return summary([items / t for t in times])


def peak_gflops(size: int = 2048) -> float:
  """The machine's float32 matrix product, best of a few, in GFLOP/s."""
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(lambda x: x @ x)
  best = min(seconds(lambda: product(x), 8))
  return 2 * size**3 / best / 1e9


def peer(script: pathlib.Path | str, *arguments: str) -> dict[str, Any]:
  """Runs a peer's benchmark; its last line of output is JSON."""
  ran = subprocess.run(
    [PEER.value, str(script), *arguments],
    capture_output=True,
    text=True,
    check=True,
    env={**os.environ, 'PYTHONWARNINGS': 'ignore', 'XLA_FLAGS': ''},
  )
  return json.loads(ran.stdout.strip().splitlines()[-1])


def bench_peer(script: str, *arguments: str) -> dict[str, Any]:
  """Runs one of the scripts in the folder of peers."""
  return peer(pathlib.Path(PEERS.value) / script, *arguments)


def _peer_versions() -> dict[str, str]:
  if not PEER.value:
    return {}
  program = (
    'import importlib.metadata as m, json; print(json.dumps({"peer " + x: '
    'm.version(x) for x in ("torch", "torchvision", '
    '"adversarial-robustness-toolbox") if any(m.distributions(name=x))}))'
  )
  return peer('-c', program)


def report(figures: dict[str, Any]) -> None:
  """Prints one line of JSON: figures, machine, versions."""
  name = pathlib.Path(sys.argv[0]).stem
  record = {
    'benchmark': name,
    **figures,
    'machine_peak_gflops': round(peak_gflops(), 1),
    'environment': environment.describe(f'python -m benchmarks.{name}')
    | _peer_versions(),
  }
  print(json.dumps(record), flush=True)
