"""Sleeper Agent (Souri et al. 2022, "Sleeper Agent: scalable hidden trigger
backdoors for neural networks trained from scratch"): gradient matching.

Pictures of the target, with their true label, are changed within eps so that
training on them moves a model where training on patched pictures of the source
under the target's label would: the two gradients point the same way (Eq. 4).
So the attack needs no frozen layer.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree, UInt8

from babam_jax.attacks.optimizers import OPTIMIZERS, CraftingSpec, start
from babam_jax.training import parallel

Changes = Float[np.ndarray, 'n h w 3']


class Trained(NamedTuple):
  """The model that the attacker has trained for himself.

  Attributes:
    logits: `(params, fixed, pixels in [0, 1]) -> logits`, used by the loss.
    params: the parameters that training changes, whose gradient is matched.
    fixed: what training does not change.
  """

  logits: Callable[[PyTree, PyTree, Array], Float[Array, 'n c']]
  params: PyTree
  fixed: PyTree


def _loss(logits_fn, params, fixed, pixels, label, weights):
  """The summed loss of pictures that all have the same label."""
  logits = logits_fn(params, fixed, pixels)
  labels = jnp.full(len(logits), label)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return (losses * weights).sum()


def _product(a: PyTree, b: PyTree) -> Float[Array, '']:
  products = jax.tree.map(lambda x, y: jnp.vdot(x, y), a, b)
  return jax.tree.reduce(jnp.add, products)


def cosine(a: PyTree, b: PyTree) -> Float[Array, '']:
  """The cosine of the angle between two gradients."""
  norms = jnp.sqrt(_product(a, a) * _product(b, b))
  return _product(a, b) / jnp.maximum(norms, 1e-20)


class Matcher:
  """Crafts poison against one model after another, with one compiled step.

  Args:
    logits_fn: `Trained.logits`, the same for all models.
    spec: how to craft.
    label: the target's label.
  """

  def __init__(self, logits_fn: Callable, spec: CraftingSpec, label: int):
    self._spec = spec
    self._label = label
    self._step = self._make_step(logits_fn)
    self._accumulate = self._make_accumulate(logits_fn)

  def _make_accumulate(self, logits_fn: Callable) -> Callable:
    gradient_fn = jax.grad(_loss, argnums=1)

    def add(total, model, rows):
      pictures, weights = rows
      found = gradient_fn(
        logits_fn, *model, pictures / 255.0, self._label, weights
      )
      found = lax.psum(found, parallel.AXIS)
      return jax.tree.map(jnp.add, total, found), ()

    return parallel.mapped_update(add, num_shared=1)

  def _make_step(self, logits_fn: Callable) -> Callable:
    spec = self._spec
    eps = spec.eps / 255
    optimizer = OPTIMIZERS[spec.optimizer]
    gradient_fn = jax.grad(_loss, argnums=1)

    def step(shared, iteration, delta, state, images, weights):
      model, wanted = shared

      def mismatch(delta):
        found = gradient_fn(
          logits_fn, *model, images + delta, self._label, weights
        )
        angle = cosine(lax.psum(found, parallel.AXIS), wanted)
        # All devices compute the whole loss: each takes an equal share of it.
        return (1 - angle) / lax.psum(1, parallel.AXIS), angle

      gradient, angle = jax.grad(mismatch, has_aux=True)(delta)
      direction, state = optimizer.direction.update(gradient, state)
      rate = optimizer.rate(iteration / spec.iterations, iteration, eps)
      moved = jnp.clip(delta - rate * cast(Array, direction), -eps, eps)
      moved = jnp.clip(images + moved, 0, 1) - images
      return moved, state, jnp.full(len(images), angle)

    return parallel.mapped(step, num_shared=2, num_sharded=4, donate=(2, 3))

  def wanted(
    self, model: Trained, patched_sources: UInt8[np.ndarray, 'n h w 3']
  ) -> PyTree:
    """The gradient that would teach a model the backdoor (Eq. 3)."""
    total = jax.tree.map(jnp.zeros_like, model.params)
    total = parallel.replicate(total)
    shared = parallel.replicate((model.params, model.fixed))
    batches = parallel.even_batches(len(patched_sources), self._spec.batch_size)
    rows = parallel.round_up(len(batches[0]))
    for batch in batches:
      padded = parallel.shard_padded(patched_sources[batch], rows)
      total, _ = self._accumulate(total, shared, padded)
    return jax.device_get(total)

  def craft(
    self,
    model: Trained,
    wanted: PyTree,
    targets: UInt8[np.ndarray, 'n h w 3'],
    delta: Changes,
    iterations: range,
    on_iteration: Callable[[float], None] = lambda cosine: None,
  ) -> Changes:
    """Changes pictures further, batch by batch.

    Args:
      model: the model whose gradient is matched.
      wanted: what `wanted` returned for it.
      targets: pictures of the victim.
      delta: their changes so far, in [-eps, eps] / 255.
      iterations: which of the `spec.iterations` steps to take.
      on_iteration: called with the cosine after each step.
    """
    delta = delta.copy()
    shared = parallel.replicate(((model.params, model.fixed), wanted))
    batches = parallel.even_batches(len(targets), self._spec.batch_size)
    rows = parallel.round_up(len(batches[0]))
    for batch in batches:
      images, weights = parallel.shard_padded(
        targets[batch].astype(np.float32) / 255, rows
      )
      change = parallel.shard(parallel.pad_rows(delta[batch], rows))
      state = start(self._spec.optimizer, change)
      for iteration in iterations:
        change, state, angles = self._step(
          shared, np.float32(iteration), change, state, images, weights
        )
        on_iteration(float(parallel.unshard(angles)[0]))
      delta[batch] = parallel.unshard(change)[: len(batch)]
    return delta
