"""Pictures that collide in feature space (paper 3.3, Eq. 5; Saha et al. 2020).

Each poison z starts as a picture of the target and is moved, within `eps` of
it, until its features equal those of a patched source picture:
argmin_z ||f(z) - f(patched source)||^2.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, UInt8

from babam_jax import errors, seeds
from babam_jax.attacks import adaptive, optimizers, pace, pairing
from babam_jax.attacks.adaptive import Adaptive
from babam_jax.attacks.optimizers import CraftingSpec
from babam_jax.attacks.wave import Batch, Wave
from babam_jax.settings import setting
from babam_jax.training import parallel

Pictures = UInt8[np.ndarray, 'n h w 3']
OfBatch = UInt8[np.ndarray, '_ h w 3']  # pictures, any number
OnSteps = Callable[[int, float], None]
FeatureFn = Callable[[PyTree, Float[Array, 'n h w 3']], Float[Array, 'n d']]


@dataclasses.dataclass(frozen=True)
class CollisionSpec(CraftingSpec):
  """How pictures are made to collide."""

  stop_distance: float = setting(
    10.0,
    'A picture is done when its squared feature distance is below this.',
    at_least=0,
  )
  pairing: str = setting(
    'hungarian',
    "Which target collides with which source: 'hungarian': one to one, least "
    "total distance; 'greedy': the closest free pair again and again; "
    "'reference': as in the released script; 'fixed': in the given order.",
    choices=tuple(pairing.PAIRINGS),
  )
  pair_every: int = setting(
    50, 'Steps between two pairings; 1: pair at every step.', at_least=1
  )
  gray: bool = setting(
    False,
    'Whether trigger and change are the same in all channels, as in a gray '
    'picture.',
  )


class Poison(NamedTuple):
  """A batch of finished poison.

  Attributes:
    images: the poison, 8-bit, within eps of the targets after rounding.
    pairs: for each target the number of its source.
    distance_start: squared feature distances before crafting.
    distance_end: the same after crafting, measured on the 8-bit images.
  """

  images: UInt8[np.ndarray, 'n h w 3']
  pairs: Int[np.ndarray, ' n']
  distance_start: Float[np.ndarray, ' n']
  distance_end: Float[np.ndarray, ' n']


class Evasion(NamedTuple):
  """What an attacker knows of PIRMs, and what he does about the defense.

  Attributes:
    spec: the settings of what he does.
    evidence: `(variables, pixels in [0, 1]) -> evidence for poison` of each
      PIRM that he evades.
    variables: those of these PIRMs; `()` if there are none.
    seed: the seed of the noise under which his poison collides.
  """

  spec: Adaptive = Adaptive()
  evidence: adaptive.EvidenceFn | None = None
  variables: PyTree = ()
  seed: int = 0


NO_EVASION = Evasion()  # the paper's attacker


def make_crafting_steps(
  feature_fn: FeatureFn, spec: CollisionSpec, evasion: Evasion, count: int
) -> Callable[..., tuple]:
  """`count` iterations, jitted and mapped over the devices.

  The order within a step is the released script's: gradient step, clip to
  +-eps, add the image, clip to [0, 1], subtract the image. The gradient is
  taken with respect to the picture only, never to the parameters.
  """
  eps = spec.eps / 255
  optimizer = optimizers.OPTIMIZERS[spec.optimizer]
  attacker = evasion.spec

  def added_loss(variables, iteration, pixels, goals, start, numbers):
    """What the attacker adds to the distance, for each picture."""
    params, pirm = variables
    total = 0.0
    if attacker.noise_scale:
      key = seeds.jax_key(evasion.seed, 'noise of the attacker')
      key = jax.random.fold_in(key, iteration.astype(jnp.int32))
      # A key for each row of the batch, on however many devices it lies.
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
      noised = adaptive.under_noise(pixels, keys, attacker.noise_scale)
      total += jnp.sum((feature_fn(params, noised) - goals) ** 2, axis=1)
    if attacker.evade and evasion.evidence is not None:
      found = adaptive.evasion(evasion.evidence(pirm, pixels))
      total += attacker.evade * start * found
    return total

  def step(variables, iteration, delta, state, images, goals, start, numbers):
    params, _ = variables

    def distances_and_features(delta):
      features = feature_fn(params, images + delta)
      distances = jnp.sum((features - goals) ** 2, axis=1)
      more = added_loss(
        variables, iteration, images + delta, goals, start, numbers
      )
      return (distances + more).sum(), (distances, features)

    gradient, (distances, features) = jax.grad(
      distances_and_features, has_aux=True
    )(delta)
    # The change is a sum of blurred steps, and so blurred itself.
    if attacker.smoothness:
      gradient = adaptive.blur(gradient, attacker.smoothness)
    direction, state = optimizer.direction.update(gradient, state)
    rate = optimizer.rate(iteration / spec.iterations, iteration, eps)
    move = rate * cast(Array, direction)
    if attacker.smoothness:
      move = adaptive.blur(move, attacker.smoothness)
    moved = delta - move
    if spec.gray:
      moved = jnp.broadcast_to(moved.mean(-1, keepdims=True), moved.shape)
    moved = jnp.clip(moved, -eps, eps)
    moved = jnp.clip(images + moved, 0, 1) - images
    running = distances >= spec.stop_distance  # the others are done
    delta = jnp.where(running[:, None, None, None], moved, delta)
    return delta, state, distances, features

  def steps(variables, first, end, delta, state, images, goals, start, numbers):
    """Some steps, of which those from `end` on change nothing."""

    def one(iteration, delta, state):
      return step(
        variables, iteration, delta, state, images, goals, start, numbers
      )

    if count == 1:
      return one(first, delta, state)

    def unless_ended(carried, iteration):
      moved = one(iteration, *carried[:2])
      keep = iteration < end
      return jax.tree.map(
        lambda x, y: jnp.where(keep, x, y), moved, carried
      ), ()

    carried = (delta, state, jnp.zeros(len(delta)), jnp.zeros_like(goals))
    iterations = first + jnp.arange(count, dtype=jnp.float32)
    return lax.scan(unless_ended, carried, iterations)[0]

  return parallel.mapped(steps, num_shared=3, num_sharded=6, donate=(3, 4))


def to_uint8_within(
  images: UInt8[np.ndarray, 'n h w 3'],
  delta: Float[np.ndarray, 'n h w 3'],
  eps: float,
) -> UInt8[np.ndarray, 'n h w 3']:
  """Rounds the poison to 8 bits and keeps it within eps gray levels."""
  limit = int(np.floor(eps))
  change = np.clip(np.rint(delta * 255), -limit, limit).astype(np.int16)
  return np.clip(images.astype(np.int16) + change, 0, 255).astype(np.uint8)


class Crafter:
  """Crafts batches of poison with one compiled function.

  Args:
    feature_fn: `(params, images in [0, 1]) -> features`, which shall collide.
    params: the surrogate's parameters.
    spec: how to craft.
    evasion: what the attacker does about the defense.
    steps: how many are taken at once; None: what suits the devices.
  """

  def __init__(
    self,
    feature_fn: FeatureFn,
    params: PyTree,
    spec: CollisionSpec,
    evasion: Evasion = NO_EVASION,
    steps: int | None = None,
  ):
    self._feature_fn = feature_fn
    self._params = parallel.replicate(params)
    self._pirm = parallel.replicate(evasion.variables)
    self._spec = spec
    self._features = parallel.mapped(
      lambda params, images: feature_fn(params, images / 255.0), 1, 1
    )
    self._evades = bool(evasion.spec.evade or evasion.spec.noise_scale)
    self._count = steps or pace.steps_at_once()
    self._steps = make_crafting_steps(feature_fn, spec, evasion, self._count)

  def features(self, images: Pictures) -> Float[np.ndarray, 'n d']:
    """The surrogate's features of 8-bit pictures."""
    return parallel.map_batches(
      self._features, self._params, (images,), self._spec.batch_size
    )

  def batches_at_once(self, picture: UInt8[np.ndarray, 'h w 3']) -> int:
    """How many batches suit the devices, for pictures of this size; one where
    evading PIRMs or noise takes more memory than the surrogate."""
    if self._evades:
      return 1

    def gradient(params, images):
      return jax.grad(lambda x: self._feature_fn(params, x).sum())(images)

    one = jax.ShapeDtypeStruct(picture.shape, np.float32)
    pictures = pace.pictures_at_once(gradient, self._params, one)
    return max(1, pictures // self._spec.batch_size)

  def craft(
    self,
    targets: Pictures,
    patched_sources: Pictures,
    rows: int | None = None,
    on_steps: OnSteps = lambda steps, distance: None,
  ) -> Poison:
    """Moves each target onto one of the patched sources in feature space.

    Args:
      targets: pictures of the victim.
      patched_sources: as many pictures of the attacker, with the trigger.
      rows: pad to this many rows, to reuse a compiled shape.
      on_steps: called with how many steps were taken, and the mean distance
        before the last of them.
    """
    batches = [(targets, patched_sources)]
    (made,) = self.craft_batches(batches, rows or len(targets), 1, on_steps)
    return made

  def craft_batches(
    self,
    batches: Sequence[tuple[OfBatch, OfBatch]],
    rows: int,
    places: int,
    on_steps: OnSteps,
  ) -> Iterator[Poison]:
    """Crafts several batches side by side; the poison of one does not depend on
    the others.

    Args:
      batches: targets and patched sources of each, as `craft` takes them.
      rows: each batch is padded to this many.
      places: pad with batches to this many.
      on_steps: called as `craft` does it.
    """
    pair = pairing.PAIRINGS[self._spec.pairing]
    begun = [
      Batch(self.features(targets), self.features(sources), pair)
      for targets, sources in batches
    ]
    wave = Wave(begun, rows, places)
    images = wave.on_devices(
      targets.astype(np.float32) / 255 for targets, _ in batches
    )
    changes = self._optimize(wave, begun, images, on_steps)
    return (
      self._finished(batch, targets, change)
      for (targets, _), (batch, change) in zip(
        batches, wave.by_batch(changes), strict=True
      )
    )

  def _optimize(
    self,
    wave: Wave,
    batches: Sequence[Batch],
    images: Float[Array, 'devices m h w 3'],
    on_steps: OnSteps,
  ) -> Float[Array, 'devices m h w 3']:
    """The changes that bring pictures to their goals."""
    spec = self._spec
    shape = (wave.total, *images.shape[2:])
    delta = parallel.shard(np.zeros(shape, np.float32))
    state = optimizers.start(spec.optimizer, delta)
    start = wave.on_devices(
      batch.distance_start.astype(np.float32) for batch in batches
    )
    numbers, goals = wave.numbers(), wave.paired_goals()
    taken = 0
    while taken < spec.iterations:
      before_pairing = spec.pair_every - taken % spec.pair_every
      count = min(self._count, before_pairing, spec.iterations - taken)
      delta, state, distances, features = self._steps(
        (self._params, self._pirm),
        np.float32(taken),
        np.float32(taken + count),
        delta,
        state,
        images,
        goals,
        start,
        numbers,
      )
      taken += count
      on_steps(count, self._look(wave, distances))
      if all(batch.done for batch in batches):
        break
      if taken % spec.pair_every == 0 and taken < spec.iterations:
        wave.pair_up(features)
        goals = wave.paired_goals()
    return delta

  def _look(self, wave: Wave, distances: Float[Array, 'devices m']) -> float:
    """Sees which batches are done; the mean distance.

    Raises:
      TrainingDivergedError: the distances are not finite.
    """
    means = []
    for batch, found in wave.by_batch(distances):
      if not np.isfinite(found).all():
        raise errors.TrainingDivergedError(
          'The feature distances of the poison are not finite; expected '
          'numbers. Check the weights of the surrogate.'
        )
      batch.done |= bool((found < self._spec.stop_distance).all())
      means.append(found.mean())
    return float(np.mean(means))

  def _finished(
    self, batch: Batch, targets: OfBatch, change: Float[np.ndarray, '_ h w 3']
  ) -> Poison:
    images = to_uint8_within(targets, change, self._spec.eps)
    distance_end = batch.distances(self.features(images))
    return Poison(images, batch.pairs, batch.distance_start, distance_end)
