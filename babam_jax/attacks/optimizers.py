"""How poison is optimized: the settings that gradient-based attacks share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from babam_jax.settings import setting
from babam_jax.training import parallel


class Optimizer(NamedTuple):
  """How a gradient becomes a step.

  Attributes:
    direction: of the step, from the gradient.
    rate: `(progress from 0 to 1, iteration, eps) -> ` the length of the step;
      eps is the largest change of a pixel, pixels from 0 to 1.
  """

  direction: optax.GradientTransformation
  rate: Callable[[Array, Array, float], Array]


def _cosine(progress: Array) -> Array:
  """From 1 to 0."""
  return 0.5 * (1 + jnp.cos(jnp.pi * progress))


def _no_momentum(params: Any) -> Any:
  """The momentum before the first step."""
  return jnp.zeros_like(params)


def _sign_of_momentum(
  updates: Any, state: Any, params: Any = None
) -> tuple[Any, Any]:
  """Adds each picture's gradient, over the mean size of its values, to the
  momentum; the direction is the momentum's sign."""
  del params
  scale = jnp.mean(jnp.abs(updates), (1, 2, 3), keepdims=True)
  momentum = 0.8 * state + updates / jnp.maximum(scale, 1e-30)
  return jnp.sign(momentum), momentum


def _length_one(updates: Any, state: Any, params: Any = None) -> tuple:
  """Each picture's gradient over the root of its mean square."""
  del params
  size = jnp.sqrt(jnp.mean(updates**2, (1, 2, 3), keepdims=True))
  return updates / jnp.maximum(size, 1e-30), state


OPTIMIZERS = {
  # As MI-FGSM, in steps from eps / 8 to 0. A chain of optax's own parts rounds
  # differently, and so would change published figures.
  'sign_momentum': Optimizer(
    optax.GradientTransformation(_no_momentum, _sign_of_momentum),
    lambda progress, iteration, eps: eps / 8 * _cosine(progress),
  ),
  'adam': Optimizer(
    optax.scale_by_adam(),
    lambda progress, iteration, eps: 0.01 * _cosine(progress),
  ),
  # Projected gradient descent (Madry et al. 2018), by sign and by length.
  'sign': Optimizer(
    optax.stateless(lambda updates, params: jax.tree.map(jnp.sign, updates)),
    lambda progress, iteration, eps: eps / 8 * _cosine(progress),
  ),
  'l2': Optimizer(
    optax.GradientTransformation(
      lambda params: optax.EmptyState(), _length_one
    ),
    lambda progress, iteration, eps: eps / 4 * _cosine(progress),
  ),
  # The released schedule: plain descent, 0.01 halved every 1,000 steps.
  'reference': Optimizer(
    optax.identity(),
    lambda progress, iteration, eps: 0.01 * 0.5 ** (iteration // 1000),
  ),
}


@functools.cache  # compiled once for all batches
def _mapped_start(optimizer: str) -> Callable[[Array], PyTree]:
  return parallel.mapped(OPTIMIZERS[optimizer].direction.init, 0, 1)


def start(
  optimizer: str, changes: Float[Array, 'devices n h w 3']
) -> PyTree[Array]:
  """What an optimizer remembers before its first step, on each device.

  Args:
    optimizer: one of `OPTIMIZERS`.
    changes: of the pictures, shared out among the devices.
  """
  return _mapped_start(optimizer)(changes)


@dataclasses.dataclass(frozen=True)
class CraftingSpec:
  """How the changes of a picture are found."""

  eps: float = setting(
    16.0,
    'The largest change of a pixel; pictures are saved in 8 bits.',
    unit='gray levels',
    at_least=1,
    at_most=255,
  )
  optimizer: str = setting(
    'sign_momentum',
    "How a gradient becomes a step: its momentum's sign, Adam's step, its sign "
    "or, by length, itself ('l2'); 'reference' is the released schedule: "
    'plain descent at 0.01 (give it iterations=5000 and pair_every=1).',
    choices=tuple(OPTIMIZERS),
  )
  iterations: int = setting(100, 'The most steps that are taken.', at_least=1)
  batch_size: int = setting(
    48, 'Pictures at a time, over all devices.', at_least=1
  )
