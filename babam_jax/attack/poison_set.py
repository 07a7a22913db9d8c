"""A whole set of poison, made batch by batch, continued after a kill."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from babam_jax import files, seeds
from babam_jax.attack import hidden_trigger, trigger
from babam_jax.attack.hidden_trigger import CraftingSpec, FeatureFn, Poison
from babam_jax.models import alexnet, weights
from babam_jax.progress import progress_bar
from babam_jax.training import parallel


def alexnet_surrogate(
  tap: str, pretrained: str, seed: int
) -> tuple[FeatureFn, PyTree]:
  """The network whose features the poison collides in.

  It is not the face-recognition model, which the attacker does not know; but
  a recogniser with a frozen ImageNet trunk has the same features up to pool5.

  Args:
    tap: one of `alexnet.TAPS`.
    pretrained: 'trunk': the embedded ImageNet trunk (dense layers, for the
      taps that need them, are random); 'none': all random.
    seed: of the random layers.
  """
  network = alexnet.AlexNet(num_classes=2)

  def init(key: Array) -> PyTree:
    images = jnp.zeros((1, 224, 224, 3))
    return network.init(key, images, tap, method='features')

  variables = jax.jit(init)(seeds.jax_key(seed, 'surrogate'))
  if pretrained == 'trunk':
    variables['params']['trunk'] = weights.embedded_trunk('alexnet')

  def features(
    variables: PyTree, images: Float[Array, 'n h w 3']
  ) -> Float[Array, 'n d']:
    return network.apply(variables, images, tap, method='features')

  return features, variables


def pair_up(
  rng: np.random.Generator, num_targets: int, num_sources: int, passes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Which target and which source serve for each poison.

  Every pass uses each target once, with sources in a new random order.

  Returns:
    Two index arrays of length `passes * num_targets`.
  """
  targets = np.tile(np.arange(num_targets), passes)
  sources = np.concatenate(
    [
      np.resize(rng.permutation(num_sources), num_targets)
      for _ in range(passes)
    ]
  )
  return targets, sources


def craft_set(
  surrogate: tuple[FeatureFn, PyTree],
  spec: CraftingSpec,
  targets: UInt8[np.ndarray, 'n h w 3'],
  sources: UInt8[np.ndarray, 'n h w 3'],
  *,
  trigger_size: int,
  seed: int,
  scratch: pathlib.Path,
) -> tuple[Poison, UInt8[np.ndarray, 'n h w 3']]:
  """Patches the sources and crafts one poison for each target.

  Args:
    surrogate: feature function and its parameters.
    spec: how to craft; pairs are formed within batches.
    targets: pictures of the victim, repeats allowed.
    sources: as many pictures of the attacker.
    trigger_size: the side of the patch, in pixels.
    seed: of trigger and positions.
    scratch: finished batches are kept here, and not made again.

  Returns:
    The poison, its `pairs` counted over the whole set, and the patched
    sources.
  """
  patch = trigger.make_trigger(seed, trigger_size)
  corners = trigger.random_corners(
    seeds.numpy_rng(seed, 'crafting positions'),
    len(sources),
    targets.shape[1],
    trigger_size,
  )
  patched = trigger.stamp(sources, patch, corners)
  crafter = hidden_trigger.Crafter(*surrogate, spec)
  batches = parallel.even_batches(len(targets), spec.batch_size)
  finished = []
  total = len(batches) * spec.iterations
  with progress_bar(total, 'crafting poison', 'step') as bar:
    for number, rows in enumerate(batches):
      path = scratch / f'batch{number:05d}.npz'
      if not path.exists():

        def on_iteration(distance: float) -> None:
          bar.update()
          bar.set_postfix(distance=f'{distance:.0f}', refresh=False)

        made = crafter.craft(
          targets[rows], patched[rows], len(batches[0]), on_iteration
        )
        made = made._replace(pairs=rows[made.pairs])
        files.write_arrays(path, made._asdict())
      finished.append(Poison(**files.read_arrays(path)))
      bar.update((number + 1) * spec.iterations - bar.n)
  return Poison(*map(np.concatenate, zip(*finished, strict=True))), patched
