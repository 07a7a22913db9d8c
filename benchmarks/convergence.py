"""Image-iterations to a given feature distance, beside the reference schedule.

  python -m benchmarks.convergence --data=../shared/data/lfw12

The reference is plain descent at a constant rate, the best of several, in our
own code. The distance that it reaches after `--iterations` is the goal; ours is
run with larger and larger budgets until it gets there.
"""

import pathlib
import sys

import numpy as np
import optax
from absl import app, flags

from babam_jax import seeds
from babam_jax.attacks import collision, optimizers, poison_set, trigger
from babam_jax.data import image_folder
from babam_jax.progress import say
from benchmarks import crafting, timing

_DATA = flags.DEFINE_string('data', '../shared/data/lfw12', 'LFW, by person.')
_PICTURES = flags.DEFINE_integer('pictures', 8, 'Targets, and as many sources.')
_ITERATIONS = flags.DEFINE_integer('iterations', 1500, 'For the reference.')
_RATES = {'pool5': (2e-4, 3e-4, 4e-4), 'fc7': (5e-4, 1e-3)}
_BUDGETS = (50, 75, 100, 125, 150, 200, 250, 300)
_TARGET, _SOURCE = 'Colin_Powell', 'Tony_Blair'
_SIZE, _TRIGGER = 224, 30


def _people() -> tuple[np.ndarray, np.ndarray]:
  """Targets and patched sources."""
  root, count = pathlib.Path(_DATA.value), _PICTURES.value
  names = (_TARGET, _SOURCE)
  pictures = [
    image_folder.Picture(path, f'{name}/{path.name}', name)
    for name in names
    for path in sorted((root / name).glob('*.jpg'))[:count]
  ]
  images = image_folder.load(
    pictures, names, _SIZE, skip_unreadable=False
  ).images
  corners = trigger.random_corners(
    seeds.numpy_rng(0, 'positions'), count, _SIZE, _TRIGGER
  )
  patch = trigger.make_trigger(0, _TRIGGER)
  return images[:count], trigger.stamp(images[count:], patch, corners)


def _constant(rate: float) -> str:
  """A name for plain descent at this rate."""
  name = f'constant {rate:g}'
  optimizers.OPTIMIZERS[name] = optimizers.Optimizer(
    optax.identity(), lambda progress, iteration, eps: rate
  )
  return name


def measure(tap: str, targets: np.ndarray, sources: np.ndarray) -> dict:
  """The reference's best, and the budget with which ours gets there."""
  surrogate = poison_set.SurrogateCollision(tap=tap).surrogate(0)

  def run(optimizer: str, iterations: int) -> tuple[float, float]:
    crafter = collision.Crafter(
      surrogate.features,
      surrogate.variables,
      crafting.spec(iterations, _PICTURES.value, optimizer),
    )
    made = crafter.craft(targets, sources)
    say(f'{tap} {optimizer} {iterations}: {made.distance_end.mean():.0f}')
    return float(made.distance_start.mean()), float(made.distance_end.mean())

  reference = {
    f'{rate:g}': run(_constant(rate), _ITERATIONS.value)[1]
    for rate in _RATES[tap]
  }
  goal = min(reference.values())
  ours = {}
  for budget in _BUDGETS:
    start, ours[str(budget)] = run('sign_momentum', budget)
    if ours[str(budget)] <= goal:
      break
  reached = ours[str(budget)] <= goal
  return {
    'distance_start': round(start, 1),
    'reference_distance_by_rate': reference,
    'goal': round(goal, 1),
    'ours_distance_by_budget': ours,
    'fewer_image_iterations': _ITERATIONS.value / budget if reached else None,
  }


def main(argv) -> None:
  """Measures both taps."""
  del argv
  if not pathlib.Path(_DATA.value).is_dir():
    sys.exit(f'--data: no folder {_DATA.value!r}; expected LFW, by person.')
  targets, sources = _people()
  timing.report(
    {
      'pictures': _PICTURES.value,
      'reference_iterations': _ITERATIONS.value,
      **{tap: measure(tap, targets, sources) for tap in _RATES},
    }
  )


if __name__ == '__main__':
  app.run(main)
