"""Crafts a whole set of poison, batch by batch; a restarted run continues."""

import dataclasses
import pathlib
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import tqdm
from jaxtyping import Array, Float, PyTree, UInt8

from babam_jax import files, seeds, settings
from babam_jax.attacks import collision, trigger
from babam_jax.attacks.base import PatchAttack
from babam_jax.attacks.collision import CollisionSpec, FeatureFn, Poison
from babam_jax.models import initial, networks
from babam_jax.models.pretrained import weights
from babam_jax.progress import progress_bar, say
from babam_jax.settings import setting
from babam_jax.training import parallel


class Surrogate(NamedTuple):
  """The network whose features the poison collides in.

  It is not the face-recognition model, which the attacker does not know; but
  the trunk of a recognizer with a frozen ImageNet trunk has the same features.

  Attributes:
    features: `(variables, images in [0, 1]) -> activations at the tap`.
    variables: parameters and batch statistics.
    origin: where the variables come from.
  """

  features: FeatureFn
  variables: PyTree
  origin: initial.Origin


@dataclasses.dataclass(frozen=True)
class SurrogateCollision(CollisionSpec):
  """How pictures are made to collide, and in which network's features."""

  model: str = setting(
    'alexnet',
    'The surrogate network, in whose features poison and source collide.',
    choices=tuple(networks.ARCHITECTURES),
  )
  pretrained: str = setting(
    'trunk',
    "Its weights: 'full' (ImageNet; see launch.weights), 'trunk' "
    "(the convolutions alone; AlexNet's, VGG16's and dlib's come in "
    "packages) or 'none' "
    '(random).',
    choices=weights.PRETRAINED,
  )
  tap: str = setting(
    'pool5',
    "The activations that collide: 'pool5', 'fc6' or 'fc7' of AlexNet and VGG; "
    "'layer1' to 'layer4' or 'avgpool' of ResNet18; 'Mixed_5d', 'Mixed_6e', "
    "'Mixed_7c' or 'avgpool' of InceptionV3; 'stage1' to 'stage3' or "
    "'embedding' of MobileFaceNet; 'level4' to 'level0' or 'embedding' of "
    "dlib's.",
  )

  def facts(self, field: str) -> dict[str, str]:
    """The fingerprint of the surrogate's weights.

    Args:
      field: the path of these settings, for the error message.

    Raises:
      UserError: the weights are missing.
    """
    return {'weights': weights.fingerprint(self.model, self.pretrained, field)}

  def check_surrogate(self, path: str, size: int) -> None:
    """Checks rules between settings.

    Args:
      path: the path of these settings, below `config`.
      size: the size of the pictures, in pixels a side.

    Raises:
      UserError: the model has no such tap, or needs larger pictures.
    """
    architecture = networks.ARCHITECTURES[self.model]
    if self.tap not in architecture.taps:
      taps = ', '.join(architecture.taps)
      settings.refuse(f'{path}.tap', self.tap, f'one of {taps}')
    networks.check_size(self.model, size, f'{path}.model')

  def surrogate(self, seed: int) -> Surrogate:
    """Builds the network; `seed` draws its random layers."""
    seed = seeds.child_seed(seed, 'surrogate')
    network = networks.Classifier(self.model, num_classes=2)
    if self.tap in networks.ARCHITECTURES[self.model].head_taps:
      variables, origin = initial.variables(
        self.model, 2, networks.WIDTH, self.pretrained, seed
      )
    else:
      variables, origin = initial.trunk(self.model, self.pretrained, seed)

    def features(
      variables: PyTree, images: Float[Array, 'n h w 3']
    ) -> Float[Array, 'n d']:
      found = network.apply(variables, images, self.tap, method='features')
      return cast(Array, found)

    say(f'surrogate {origin}')
    return Surrogate(features, variables, origin)


def pair_up(
  rng: np.random.Generator, num_targets: int, num_sources: int, passes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws the target and the source of each poison.

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


@dataclasses.dataclass(frozen=True)
class PatchCollision(SurrogateCollision, PatchAttack):
  """An attack whose poison collides and whose trigger is a patch; where the
  poison is gray, the patch is, too."""

  shows: ClassVar[tuple[str, ...]] = ('trigger_size', 'gray')

  def make_patch(self, seed: int) -> UInt8[np.ndarray, 'p p 3']:
    """The patch that a seed gives."""
    return trigger.make_trigger(seed, self.trigger_size, self.gray)

  def facts(self, field: str) -> dict[str, Any]:
    """The surrogate's weights; and that a gray patch had colors before."""
    gray = {'trigger': 'gray'} if self.gray else {}
    return super().facts(field) | gray

  def check(self, path: str, size: int) -> None:
    """Checks the tap and the sizes."""
    super().check(path, size)
    self.check_surrogate(path, size)


def _advance(bar: tqdm.tqdm, batches: int) -> collision.OnSteps:
  """What moves a bar that counts the steps of all batches."""

  def on_steps(steps: int, distance: float) -> None:
    bar.update(steps * batches)
    bar.set_postfix(distance=f'{distance:.3g}', refresh=False)

  return on_steps


def craft_set(
  surrogate: Surrogate,
  spec: CollisionSpec,
  targets: UInt8[np.ndarray, 'n h w 3'],
  sources: UInt8[np.ndarray, 'n h w 3'],
  *,
  patch: UInt8[np.ndarray, 'p p 3'] | None,
  seed: int,
  scratch: pathlib.Path | None,
  evasion: collision.Evasion = collision.NO_EVASION,
) -> tuple[Poison, UInt8[np.ndarray, 'n h w 3']]:
  """Patches the sources and crafts one poison for each target.

  Args:
    surrogate: the network in whose features to collide.
    spec: how to craft; pairs are formed within batches.
    targets: pictures of the victim, repeats allowed.
    sources: as many pictures of the attacker.
    patch: the trigger, smaller than the pictures; None: none.
    seed: the seed of its positions.
    scratch: a folder for finished batches, which a restarted run reuses; None:
      they are not kept.
    evasion: what the attacker does about the defense.

  Returns:
    The poison, whose `pairs` are rows of the whole set, and the patched
    sources.
  """
  patched = sources
  if patch is not None:
    patched = trigger.show(sources, patch, seed, 'crafting positions')
  crafter = collision.Crafter(
    surrogate.features, surrogate.variables, spec, evasion
  )
  batches = parallel.even_batches(len(targets), spec.batch_size)
  total = len(batches) * spec.iterations
  with (
    files.scratch_folder(scratch) as folder,
    progress_bar(total, 'crafting poison', 'step') as bar,
  ):
    paths = [folder / f'batch{n:05d}.npz' for n in range(len(batches))]
    # The same waves after a kill: the compiled shape is the same, too.
    waves = parallel.even_batches(
      len(batches), crafter.batches_at_once(targets[0])
    )
    for wave in waves:
      here = [n for n in wave if not paths[n].exists()]
      bar.update((len(wave) - len(here)) * spec.iterations)
      if not here:
        continue
      done_before = bar.n
      found = crafter.craft_batches(
        [(targets[batches[n]], patched[batches[n]]) for n in here],
        rows=len(batches[0]),
        places=len(waves[0]),
        on_steps=_advance(bar, len(here)),
      )
      for n, made in zip(here, found, strict=True):
        made = made._replace(pairs=batches[n][made.pairs])
        files.write_arrays(paths[n], made._asdict())
      bar.update(done_before + len(here) * spec.iterations - bar.n)
    finished = [Poison(**files.read_arrays(path)) for path in paths]
  return Poison(*map(np.concatenate, zip(*finished, strict=True))), patched
