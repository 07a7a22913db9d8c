"""A whole set of poison, made batch by batch, continued after a kill."""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from babam_jax import files, seeds
from babam_jax.attacks import hidden_trigger, trigger
from babam_jax.attacks.hidden_trigger import CraftingSpec, FeatureFn, Poison
from babam_jax.models import initial, networks
from babam_jax.progress import progress_bar
from babam_jax.training import parallel


class Surrogate(NamedTuple):
  """The network whose features the poison collides in.

  It is not the face-recognition model, which the attacker does not know; but
  a recognizer with a frozen ImageNet trunk has the same features up to there.

  Attributes:
    features: `(variables, images in [0, 1]) -> activations at the tap`.
    variables: parameters and batch statistics.
    origin: where they come from.
  """

  features: FeatureFn
  variables: PyTree
  origin: initial.Origin


def surrogate(model: str, tap: str, weights: str, seed: int) -> Surrogate:
  """Builds the surrogate.

  Args:
    model: one of `networks.ARCHITECTURES`.
    tap: one of its taps.
    weights: one of `weights.PRETRAINED`.
    seed: of its random layers.
  """
  seed = seeds.child_seed(seed, 'surrogate')
  network = networks.Classifier(model, num_classes=2)
  if tap in networks.head_taps(model):
    variables, origin = initial.variables(
      model, 2, networks.WIDTH, weights, seed
    )
  else:
    variables, origin = initial.trunk(model, weights, seed)

  def features(
    variables: PyTree, images: Float[Array, 'n h w 3']
  ) -> Float[Array, 'n d']:
    return network.apply(variables, images, tap, method='features')

  return Surrogate(features, variables, origin)


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
  surrogate: Surrogate,
  spec: CraftingSpec,
  targets: UInt8[np.ndarray, 'n h w 3'],
  sources: UInt8[np.ndarray, 'n h w 3'],
  *,
  trigger_size: int | None,
  seed: int,
  scratch: pathlib.Path,
  evasion: hidden_trigger.Evasion = hidden_trigger.NO_EVASION,
) -> tuple[Poison, UInt8[np.ndarray, 'n h w 3']]:
  """Patches the sources and crafts one poison for each target.

  Args:
    surrogate: the network to collide in.
    spec: how to craft; pairs are formed within batches.
    targets: pictures of the victim, repeats allowed.
    sources: as many pictures of the attacker.
    trigger_size: the side of the patch, in pixels; None: sources have none.
    seed: of trigger and positions.
    scratch: finished batches are kept here, and not made again.
    evasion: what an attacker does who knows the defense.

  Returns:
    The poison, its `pairs` counted over the whole set, and the patched
    sources.
  """
  patched = sources
  if trigger_size is not None:
    patched = trigger.show(sources, trigger_size, seed, 'crafting positions')
  crafter = hidden_trigger.Crafter(
    surrogate.features, surrogate.variables, spec, evasion
  )
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
