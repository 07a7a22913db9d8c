"""Section 4.13: the defense's cost grows in proportion to the pictures.

  python -m benchmarks.defense_cost

Algorithm 2 on larger and larger sets in its worst case, where every picture is
flagged: the shipped PIRM scores each, Algorithm 1 perturbs each. Pictures are
made up as they are needed.
"""

import time

import numpy as np
from absl import app

from babam_jax.defenses import noise, pirm
from benchmarks import noise as noise_benchmark
from benchmarks import timing

_SIZES = (250, 500, 1000, 2000, 4000)
_SCORED = 32  # pictures a step, as in the configs
_CHUNK = noise.CHUNK_ROWS


def seconds(model: pirm.Pirm, size: int) -> dict[str, float]:
  """Seconds for scoring and for perturbing `size` pictures."""
  made_up = noise_benchmark.MadeUp(size)
  start = time.perf_counter()
  for chunk in made_up.chunks():
    pirm.score(model, chunk.images, _SCORED)
  scored = time.perf_counter()
  if noise_benchmark.ours(made_up) != size:
    raise AssertionError('pictures were lost')
  return {
    'scoring': round(scored - start, 3),
    'noise': round(time.perf_counter() - scored, 3),
  }


def main(argv) -> None:
  """Measures each size, after runs with its chunk sizes, which compile."""
  del argv
  model = pirm.load(pirm.SHIPPED['shipped'])
  found = {}
  for size in _SIZES:
    for chunk in {min(size, _CHUNK), size % _CHUNK or _CHUNK}:
      seconds(model, chunk)
    found[str(size)] = seconds(model, size)
  totals = [sum(times.values()) for times in found.values()]
  slope = np.polyfit(np.log(_SIZES), np.log(totals), 1)[0]
  timing.report(
    {
      'seconds': found,
      'milliseconds_per_picture': [
        round(1000 * total / size, 2)
        for total, size in zip(totals, _SIZES, strict=True)
      ],
      'log_log_slope': round(float(slope), 3),
    }
  )


if __name__ == '__main__':
  app.run(main)
