"""Algorithm 1 on one class, from 8-bit pictures to 8-bit pictures.

  python -m benchmarks.noise

Every picture is flagged: the time is for means, distances, sensitivities and
noise. The peer is the same in vectorized NumPy. Then the time and the memory of
larger and larger classes, whose pictures are made up as they are needed.
"""

import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np
from absl import app

from babam_jax.data.examples import Examples
from babam_jax.defenses import noise
from benchmarks import timing

_SIZES = (1000, 3000, 10_000, 30_000, 100_000)
_ROUNDS = 5  # in each, ours and the peer take turns
_SIDE = 224
_COMPARED = 512  # pictures in the comparison with NumPy
_EPSILON = 0.01


class MadeUp:
  """A class of any size, whose chunks are windows of a few pictures."""

  def __init__(self, size: int):
    self._size = size
    rng = np.random.default_rng(0)
    shape = (2 * noise.CHUNK_ROWS, _SIDE, _SIDE, 3)
    self._images = rng.integers(0, 256, shape, np.uint8)

  def chunks(self) -> Iterator[Examples]:
    """Walks over the pictures; the last chunk may be smaller."""
    for start in range(0, self._size, noise.CHUNK_ROWS):
      rows = np.arange(start, min(start + noise.CHUNK_ROWS, self._size))
      first = start * 7 % noise.CHUNK_ROWS
      yield Examples(
        images=self._images[first : first + len(rows)],
        labels=np.zeros(len(rows), np.int32),
        ids=rows.astype(np.str_),
        class_names=('one',),
        poisoned=np.zeros(len(rows), bool),
      )


def ours(made_up: MadeUp) -> int:
  """Algorithm 1, a chunk at a time; how many pictures came out."""
  sensitivity = noise.sensitivities(made_up.chunks, np.zeros(1, int), 'squared')
  count = 0
  for chunk in made_up.chunks():
    treated = noise.treat(
      chunk.images,
      chunk.ids,
      np.array([sensitivity[name] for name in chunk.ids]),
      epsilon=_EPSILON,
      mode='laplace',
      seed=0,
    )
    count += len(treated.images)
  return count


def in_numpy(images: np.ndarray) -> np.ndarray:
  """The same in NumPy, for pictures in memory."""
  rng = np.random.default_rng(0)
  distances = ((images - images.mean(0)) ** 2).sum((1, 2, 3))
  scales = distances / distances.max() / _EPSILON
  drawn = rng.laplace(size=images.shape) * scales[:, None, None, None]
  return np.clip(np.rint(images + drawn), 0, 255).astype(np.uint8)


def compare() -> dict[str, list[float]]:
  """Pictures per second, ours and NumPy's, in turn."""
  made_up = MadeUp(_COMPARED)
  images = np.concatenate([chunk.images for chunk in made_up.chunks()])
  rates: dict[str, list[float]] = {'ours': [], 'numpy': []}
  for _ in range(_ROUNDS):
    times = timing.seconds(lambda: ours(made_up), 3)
    rates['ours'] += [len(images) / t for t in times]
    start = time.perf_counter()
    in_numpy(images)
    rates['numpy'].append(len(images) / (time.perf_counter() - start))
  return rates


def grow() -> dict[str, dict[str, float]]:
  """Seconds and the peak memory so far, in MiB, for each size."""
  found = {}
  ours(MadeUp(noise.CHUNK_ROWS))  # compiles for whole chunks
  for size in _SIZES:
    made_up = MadeUp(size)
    ours(MadeUp(size % noise.CHUNK_ROWS))  # compiles for the last chunk
    start = time.perf_counter()
    if ours(made_up) != size:
      raise AssertionError('pictures were lost')
    found[str(size)] = {
      'seconds': round(time.perf_counter() - start, 3),
      'peak_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
  return found


def main(argv) -> None:
  """Measures larger and larger classes, then compares with NumPy."""
  del argv
  growth = grow()  # first: NumPy takes more memory
  rates = compare()
  times = [growth[str(size)]['seconds'] for size in _SIZES]
  slope = np.polyfit(np.log(_SIZES), np.log(times), 1)[0]
  medians = {name: statistics.median(found) for name, found in rates.items()}
  timing.report(
    {
      'images_per_second': {n: timing.summary(r) for n, r in rates.items()},
      'ours_over': {'numpy': round(medians['ours'] / medians['numpy'], 2)},
      'growth': growth,
      'log_log_slope': round(float(slope), 3),
    }
  )


if __name__ == '__main__':
  app.run(main)
