"""Everything that the laboratory computes, on one GPU; PyTorch beside it.

  python -m benchmarks.gpu [--peer=PYTHON]

Crafting (AlexNet fc7, 224 pixels) in image-iterations per second: step by step,
as a CPU does it, and as a GPU is given its work, and whether poison collides
with TF32 as it does with float32. Scoring (the paper's PIRM, from 8-bit
pictures to probabilities on the host; the general one on pictures of 224),
Algorithm 1's noise, training steps, the sanitizer on a folder of JPEGs. Seconds
of compiling beside all. No data, no network. Some five minutes.
"""

import functools
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from jax import lax
from jaxtyping import Array
from PIL import Image

from babam_jax.attacks import collision, poison_set
from babam_jax.cli import command
from babam_jax.defenses import any_size, noise, pirm
from babam_jax.models import layers, vgg
from babam_jax.progress import say
from babam_jax.training import parallel
from benchmarks import crafting, networks, sanitizing, timing

_BATCH = 48  # our default
_SIDE = 224
_REPEATS = 5
_SCORED = 1024
_FILES = 4000
_SCRIPT = pathlib.Path(__file__).parent / 'peers' / 'gpu_torch.py'


def pictures(count: int) -> np.ndarray:
  """Smooth pictures, no two alike."""
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (count, 9, 9, 3), np.uint8)
  size = (_SIDE, _SIDE)
  return np.stack([np.asarray(Image.fromarray(x).resize(size)) for x in coarse])


def rate(step: Callable[[], Any], items: int) -> dict[str, float]:
  """Items per second, and the seconds of the first call, which compiles."""
  start = time.perf_counter()
  jax.block_until_ready(step())
  first = time.perf_counter() - start
  found = timing.rate(items, timing.seconds(step, _REPEATS))
  return found | {'first_seconds': round(first, 1)}


def craft(
  images: np.ndarray, places: int, steps: int | None, precision: str
) -> dict[str, Any]:
  """Image-iterations per second, and how near the poison gets.

  Args:
    images: the pictures; targets and sources are taken from them.
    places: batches side by side; 0: what suits the device.
    steps: at once; None: what suits the device.
    precision: of products, as JAX names it.
  """
  surrogate = poison_set.SurrogateCollision(tap='fc7').surrogate(0)
  with jax.default_matmul_precision(precision):
    crafter = collision.Crafter(
      surrogate.features,
      surrogate.variables,
      crafting.spec(60, _BATCH),
      steps=steps,
    )
    places = places or crafter.batches_at_once(images[0])
    starts = [_BATCH * n % (len(images) - 2 * _BATCH) for n in range(places)]
    batches = [
      (images[n : n + _BATCH], images[n + _BATCH : n + 2 * _BATCH])
      for n in starts
    ]
    begun = time.perf_counter()
    ticks, taken = [], []

    def on_steps(count: int, distance: float) -> None:
      ticks.append(time.perf_counter())
      taken.append(count)

    made = next(crafter.craft_batches(batches, _BATCH, places, on_steps))
  rates = _BATCH * places * np.array(taken[1:]) / np.diff(ticks)
  return {
    **timing.summary(rates.tolist()),
    'batches': places,
    'first_seconds': round(ticks[0] - begun, 1),
    'distance_start': round(float(made.distance_start.mean()), 1),
    'distance_end': round(float(made.distance_end.mean()), 2),
  }


def all_crafting(images: np.ndarray) -> dict[str, Any]:
  """Crafting as a CPU does it, as a GPU does it, and with float32 products."""
  return {
    'step by step': craft(images, 1, 1, 'default'),
    'at once': craft(images, 0, None, 'default'),
    'at once, float32': craft(images, 0, None, 'float32'),
  }


def scoring() -> dict[str, Any]:
  """The paper's PIRM and the general one, in pictures per second."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (_SCORED, *pirm.VGG_INPUT, 3), np.uint8)
  variables = jax.jit(vgg.PaperPirm().init)(
    jax.random.key(0), jnp.zeros((1, *pirm.VGG_INPUT, 3))
  )
  paper = pirm.Pirm('vgg16', jax.device_get(variables), {})
  general = pirm.load_pirm('general')
  views = [any_size.views('residual', x) for x in pictures(_SCORED)]
  return {
    "the paper's": rate(lambda: pirm.score(paper, images, 128), _SCORED),
    'general': rate(lambda: any_size.score(general, views), _SCORED),
  }


def noising(images: np.ndarray) -> dict[str, Any]:
  """Algorithm 1's noise, from 8-bit pictures to 8-bit pictures."""
  ids = np.arange(len(images)).astype(np.str_)
  scales = np.full(len(images), 35.0)
  perturb = functools.partial(
    noise.perturb, images, ids, scales, mode='laplace', seed=0
  )
  return rate(perturb, len(images))


def training() -> dict[str, Any]:
  """Steps in which everything trains, in pictures per second."""
  found = {}
  for model, batch in (('resnet18', 64), ('alexnet', 128)):
    ours = networks.Ours(model, batch)

    def steps(ours=ours) -> Any:
      return [ours.training() for _ in range(8)][-1]

    found[model] = rate(steps, 8 * batch)
  return found


def _milliseconds_back(
  function: Callable[..., Array], x: Array, rest: tuple
) -> float:
  """How long the gradient of `function(x, *rest)` by x takes."""

  def back(x: Array, of_result: Array) -> Array:
    return jax.vjp(lambda x: function(x, *rest), x)[1](of_result)[0]

  step = functools.partial(jax.jit(back), x, function(x, *rest))
  return round(1e3 * statistics.median(timing.seconds(step)), 2)


def own_gradients() -> dict[str, Any]:
  """Milliseconds of gradients that are written by hand, and of XLA's own."""

  def plain_pool(x, window, stride):
    sides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, *sides, 'VALID')

  def plain_stem(x, kernel, stride, padding):
    pads, layout = ((padding, padding),) * 2, ('NHWC', 'HWIO', 'NHWC')
    return lax.conv_general_dilated(
      x, kernel, (stride, stride), pads, dimension_numbers=layout
    )

  key = jax.random.key(0)
  kernel = jax.random.normal(key, (11, 11, 3, 64))
  found = {}
  for name, shape, ours, plain, rest in (
    ('pool', (1008, 55, 55, 64), layers.max_pool, plain_pool, (3, 2)),
    ('second pool', (1008, 27, 27, 192), layers.max_pool, plain_pool, (3, 2)),
    ("VGG's pool", (256, 112, 112, 64), layers.max_pool, plain_pool, (2, 2)),
    ('stem', (480, 224, 224, 3), layers.strided, plain_stem, (kernel, 4, 2)),
  ):
    x = jax.random.normal(key, shape)
    found[name] = {}
    for label, function in (('ours', ours), ("XLA's", plain)):
      found[name][label] = _milliseconds_back(function, x, rest)
  return found


def sanitizer() -> dict[str, Any]:
  """`launch.sanitize` on JPEGs of 250 pixels, from start to end."""
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name)
    sanitizing.make_folder(base / 'pictures', _FILES)
    for once in ('compiling', 'compiled'):
      run = sanitizing.sanitize(
        base / 'pictures', base / once, '--detectors=perturbation'
      )
  return {'files_per_second': round(_FILES / run['seconds'], 1), **run}


def main(argv) -> None:
  """Measures all, one after the other, and says each as it is known."""
  del argv
  # The sanitizer is another process, on the same GPU.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  command.keep_compiled_code()
  images = pictures(960)
  figures: dict[str, Any] = {}
  for name, measure in (
    ('crafting', functools.partial(all_crafting, images)),
    ('scoring', scoring),
    ('noise', functools.partial(noising, images)),
    ('training', training),
    ('gradients', own_gradients),
    ('sanitizer', sanitizer),
  ):
    figures[name] = measure()
    say(f'{name}: {figures[name]}')
  if timing.PEER.value:
    figures['torch'] = timing.peer(_SCRIPT)
    say(f'torch: {figures["torch"]}')
  surrogate = poison_set.SurrogateCollision(tap='fc7').surrogate(0)
  work = crafting.gflop_per_image_iteration(surrogate)
  peak = timing.peak_gflops(8192)
  best = figures['crafting']['at once']['median']
  timing.report(
    figures
    | {
      'devices': parallel.num_devices(),
      'gflop_per_image_iteration': round(work, 3),
      'crafting_share_of_peak': round(best * work / peak, 3),
    }
  )


if __name__ == '__main__':
  app.run(main)
