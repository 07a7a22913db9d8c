"""Poison crafting, AlexNet fc7 at 224 pixels, in image-iterations per second.

  python -m benchmarks.crafting [--peer=PYTHON]

The peers: a hand-tuned PyTorch loop, the same with parameters that require
gradients (as in the Hidden Trigger release), and ART's own attack. They take
plain descent steps; ours is the default optimizer, which does more per step.
"""

import statistics
import time

import numpy as np
from absl import app

from babam_jax.attacks import collision, poison_set
from benchmarks import timing

_BATCH = 48  # our default
_ROUNDS = 3  # in each, ours and the peers take turns
_ITERATIONS = 12
# How many positions of a 224-pixel picture each layer's weights are used at.
_POSITIONS = {
  'conv1': 55**2,
  'conv2': 27**2,
  'conv3': 13**2,
  'conv4': 13**2,
  'conv5': 13**2,
  'fc6': 1,
  'fc7': 1,
}
_PEERS = {
  'torch-tuned': ('poison_torch.py', '--style=tuned'),
  'torch-reference': ('poison_torch.py', '--style=reference'),
  'art': ('poison_art.py',),
}


def gflop_per_image_iteration(surrogate: poison_set.Surrogate) -> float:
  """Multiplications and additions, forward and back to the picture."""
  params = surrogate.variables['params']
  layers = params['trunk'] | params['head']
  products = sum(
    layers[name]['kernel'].size * count for name, count in _POSITIONS.items()
  )
  return 2 * 2 * products / 1e9


def spec(
  iterations: int, batch: int, optimizer: str = 'sign_momentum'
) -> collision.CollisionSpec:
  """The default way to craft; no picture stops early."""
  return collision.CollisionSpec(
    eps=16,
    optimizer=optimizer,
    iterations=iterations,
    stop_distance=0,
    pairing='hungarian',
    pair_every=50,
    batch_size=batch,
  )


def ours(surrogate: poison_set.Surrogate, batch: int) -> float:
  """Image-iterations per second of the crafting loop, between two pairings."""
  crafter = collision.Crafter(
    surrogate.features, surrogate.variables, spec(_ITERATIONS, batch)
  )
  rng = np.random.default_rng(0)
  targets, sources = rng.integers(0, 256, (2, batch, 224, 224, 3), np.uint8)
  ticks = []
  crafter.craft(
    targets, sources, on_steps=lambda *_: ticks.append(time.perf_counter())
  )
  return batch / statistics.median(np.diff(ticks))


def main(argv) -> None:
  """Measures ours and the peers in turn, a few times."""
  del argv
  surrogate = poison_set.SurrogateCollision(tap='fc7').surrogate(0)
  rates: dict[str, list[float]] = {'ours': []}
  peaks = []
  for _ in range(_ROUNDS):
    peaks.append(timing.peak_gflops())
    rates['ours'].append(ours(surrogate, _BATCH))
    for name, command in _PEERS.items() if timing.PEER.value else ():
      found = timing.bench_peer(*command, f'--batch={_BATCH}')
      rates.setdefault(name, []).append(found['image_iterations_per_second'])
  medians = {name: statistics.median(found) for name, found in rates.items()}
  work = gflop_per_image_iteration(surrogate)
  timing.report(
    {
      'batch': _BATCH,
      'image_iterations_per_second': {
        name: timing.summary(found) for name, found in rates.items()
      },
      'ours_over': {
        name: round(medians['ours'] / medians[name], 2)
        for name in rates.keys() - {'ours'}
      },
      'gflop_per_image_iteration': round(work, 3),
      'share_of_peak': round(
        medians['ours'] * work / statistics.median(peaks), 3
      ),
    }
  )


if __name__ == '__main__':
  app.run(main)
