"""How poison is optimized: the settings that gradient-based attacks share."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from babam_jax.settings import setting


def _reference(gradient, moments, progress, iteration, eps):
  """The released schedule: plain descent, 0.01 halved every 1,000 steps."""
  rate = 0.01 * 0.5 ** (iteration // 1000)
  return rate * gradient, moments


def _adam(gradient, moments, progress, iteration, eps):
  """Adam, rate falling on a cosine from 0.01 to 0."""
  first = 0.9 * moments[0] + 0.1 * gradient
  second = 0.999 * moments[1] + 0.001 * gradient**2
  count = iteration + 1.0
  scaled = (first / (1 - 0.9**count)) / (
    jnp.sqrt(second / (1 - 0.999**count)) + 1e-8
  )
  rate = 0.01 * 0.5 * (1 + jnp.cos(jnp.pi * progress))
  return rate * scaled, (first, second)


def _sign_momentum(gradient, moments, progress, iteration, eps):
  """The momentum's sign (as MI-FGSM), rate on a cosine from eps / 8 to 0."""
  scale = jnp.mean(jnp.abs(gradient), (1, 2, 3), keepdims=True)
  first = 0.8 * moments[0] + gradient / jnp.maximum(scale, 1e-30)
  rate = eps / 8 * 0.5 * (1 + jnp.cos(jnp.pi * progress))
  return rate * jnp.sign(first), (first,)


class Optimizer(NamedTuple):
  """How a gradient becomes a step.

  Attributes:
    moments: how many arrays of the pictures' shape it keeps between steps.
    update: `(gradient, moments, progress from 0 to 1, iteration, eps) ->
      (what to subtract, moments)`.
  """

  moments: int
  update: Callable[..., tuple[Array, tuple[Array, ...]]]


OPTIMIZERS = {
  'sign_momentum': Optimizer(1, _sign_momentum),
  'adam': Optimizer(2, _adam),
  'reference': Optimizer(0, _reference),
}


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
    "How a gradient becomes a step; 'reference' is the released schedule: "
    'plain descent at 0.01 (give it iterations=5000 and pair_every=1).',
    choices=tuple(OPTIMIZERS),
  )
  iterations: int = setting(100, 'The most steps that are taken.', at_least=1)
  batch_size: int = setting(
    48, 'Pictures at a time, over all devices.', at_least=1
  )
