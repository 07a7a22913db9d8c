"""Pictures that collide in feature space (paper 3.3, Eq. 5; Saha et al. 2020).

Each poison z starts as a picture of the target and is moved, within `eps` of
it, until its features equal those of a patched source picture:
argmin_z ||f(z) - f(patched source)||^2.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, UInt8

from babam_jax import errors, seeds
from babam_jax.attacks import adaptive, optimizers, pairing
from babam_jax.attacks.adaptive import Adaptive
from babam_jax.attacks.optimizers import CraftingSpec
from babam_jax.settings import setting
from babam_jax.training import parallel

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
    'Whether the change is the same in all channels, as in a gray picture.',
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


def make_crafting_step(
  feature_fn: FeatureFn, spec: CollisionSpec, evasion: Evasion
) -> Callable[..., tuple]:
  """One iteration for a batch, jitted and mapped over the devices.

  The order within a step is the released script's: gradient step, clip to
  +-eps, add the image, clip to [0, 1], subtract the image. The gradient is
  taken with respect to the picture only, never to the parameters.
  """
  eps = spec.eps / 255
  optimizer = optimizers.OPTIMIZERS[spec.optimizer]
  attacker = evasion.spec

  def added_loss(variables, iteration, pixels, goals, start):
    """What the attacker adds to the distance, for each picture."""
    params, pirm = variables
    total = 0.0
    if attacker.noise_scale:
      key = seeds.jax_key(evasion.seed, 'noise of the attacker')
      key = jax.random.fold_in(key, iteration.astype(jnp.int32))
      # A key for each row of the batch, on however many devices it lies.
      rows = lax.axis_index(parallel.AXIS) * len(pixels)
      rows += jnp.arange(len(pixels))
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
      noised = adaptive.under_noise(pixels, keys, attacker.noise_scale)
      total += jnp.sum((feature_fn(params, noised) - goals) ** 2, axis=1)
    if attacker.evade and evasion.evidence is not None:
      found = adaptive.evasion(evasion.evidence(pirm, pixels))
      total += attacker.evade * start * found
    return total

  def step(variables, iteration, delta, state, images, goals, start):
    params, _ = variables

    def distances_and_features(delta):
      features = feature_fn(params, images + delta)
      distances = jnp.sum((features - goals) ** 2, axis=1)
      more = added_loss(variables, iteration, images + delta, goals, start)
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

  return parallel.mapped(step, num_shared=2, num_sharded=5, donate=(2, 3))


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
  """Crafts batches of poison with one compiled step.

  Args:
    feature_fn: `(params, images in [0, 1]) -> features`, which shall collide.
    params: the surrogate's parameters.
    spec: how to craft.
    evasion: what the attacker does about the defense.
  """

  def __init__(
    self,
    feature_fn: FeatureFn,
    params: PyTree,
    spec: CollisionSpec,
    evasion: Evasion = NO_EVASION,
  ):
    self._params = parallel.replicate(params)
    self._pirm = parallel.replicate(evasion.variables)
    self._spec = spec
    self._features = parallel.mapped(
      lambda params, images: feature_fn(params, images / 255.0), 1, 1
    )
    self._step = make_crafting_step(feature_fn, spec, evasion)

  def features(
    self, images: UInt8[np.ndarray, 'n h w 3']
  ) -> Float[np.ndarray, 'n d']:
    """The surrogate's features of 8-bit pictures."""
    return parallel.map_batches(
      self._features, self._params, (images,), self._spec.batch_size
    )

  def craft(
    self,
    targets: UInt8[np.ndarray, 'n h w 3'],
    patched_sources: UInt8[np.ndarray, 'n h w 3'],
    rows: int | None = None,
    on_iteration: Callable[[float], None] = lambda distance: None,
  ) -> Poison:
    """Moves each target onto one of the patched sources in feature space.

    Args:
      targets: pictures of the victim.
      patched_sources: as many pictures of the attacker, with the trigger.
      rows: pad to this many rows, to reuse a compiled shape.
      on_iteration: called with the mean distance after each iteration.
    """
    spec, count = self._spec, len(targets)
    rows = parallel.round_up(rows or count)
    goals = self.features(patched_sources)
    features = self.features(targets)
    pair = pairing.PAIRINGS[spec.pairing]
    pairs = pair(pairing.squared_distances(features, goals))
    distance_start = np.sum((features - goals[pairs]) ** 2, axis=1)

    images = parallel.shard(
      parallel.pad_rows(targets.astype(np.float32) / 255, rows)
    )
    delta = parallel.shard(np.zeros((rows, *targets.shape[1:]), np.float32))
    state = optimizers.start(spec.optimizer, delta)
    start = _shard_padded(distance_start.astype(np.float32), rows)
    paired_goals = _shard_padded(goals[pairs], rows)
    for iteration in range(spec.iterations):
      delta, state, distances, features = self._step(
        (self._params, self._pirm),
        np.float32(iteration),
        delta,
        state,
        images,
        paired_goals,
        start,
      )
      distances = parallel.unshard(distances)[:count]
      if not np.isfinite(distances).all():
        raise errors.TrainingDivergedError(
          'The feature distances of the poison are not finite; expected '
          'numbers. Check the weights of the surrogate.'
        )
      on_iteration(float(distances.mean()))
      if (distances < spec.stop_distance).all():
        break
      done = iteration + 1
      if done % spec.pair_every == 0 and done < spec.iterations:
        features = parallel.unshard(features)[:count]
        pairs = pair(pairing.squared_distances(features, goals))
        paired_goals = _shard_padded(goals[pairs], rows)

    poison = to_uint8_within(targets, parallel.unshard(delta)[:count], spec.eps)
    distance_end = np.sum((self.features(poison) - goals[pairs]) ** 2, axis=1)
    return Poison(poison, pairs, distance_start, distance_end)


def _shard_padded(
  x: Float[np.ndarray, ' n *d'], rows: int
) -> Float[Array, 'devices m *d']:
  return parallel.shard(parallel.pad_rows(x, rows))
