"""The peak memory of large jobs, each in a process of its own.

  python -m benchmarks.memory

The jobs: scoring and perturbing 200,000 pictures that are made up chunk by
chunk, and crafting a set of 10,000 poisons (two steps each).
"""

import multiprocessing
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from babam_jax.attacks import poison_set, trigger
from babam_jax.defenses import pirm
from benchmarks import crafting, noise, timing

_PICTURES = flags.DEFINE_integer(
  'pictures', 200_000, 'Pictures to score, and to perturb.'
)
_POISONS = flags.DEFINE_integer('poisons', 10_000, 'Poisons to craft.')
_SIDE = 224


def score(pictures: int) -> None:
  """Scores pictures, a chunk at a time."""
  model = pirm.load(pirm.SHIPPED['shipped'])
  for chunk in noise.MadeUp(pictures).chunks():
    pirm.score(model, chunk.images, 32)


def perturb(pictures: int) -> None:
  """Algorithm 1 on one class."""
  noise.ours(noise.MadeUp(pictures))


def craft(poisons: int) -> None:
  """Crafts a set of poison."""
  rng = np.random.default_rng(0)
  some = rng.integers(0, 256, (2, 100, _SIDE, _SIDE, 3), np.uint8)
  rows = np.arange(poisons) % 100
  with tempfile.TemporaryDirectory() as scratch:
    poison_set.craft_set(
      poison_set.SurrogateCollision().surrogate(0),
      crafting.spec(iterations=2, batch=48),
      some[0][rows],
      some[1][rows],
      patch=trigger.make_trigger(0, 30),
      seed=0,
      scratch=pathlib.Path(scratch),
    )


def _measure(job: Callable[[int], None], count: int, results) -> None:
  start = time.perf_counter()
  job(count)
  results.put(
    {
      'count': count,
      'seconds': round(time.perf_counter() - start, 1),
      'peak_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
  )


def main(argv) -> None:
  """Measures the three jobs."""
  del argv
  context = multiprocessing.get_context('spawn')
  figures = {}
  for job, count in (
    (score, _PICTURES.value),
    (perturb, _PICTURES.value),
    (craft, _POISONS.value),
  ):
    results = context.Queue()
    process = context.Process(target=_measure, args=(job, count, results))
    process.start()
    figures[job.__name__] = results.get()
    process.join()
  timing.report(figures)


if __name__ == '__main__':
  app.run(main)
