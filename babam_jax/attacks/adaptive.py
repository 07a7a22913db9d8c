"""An attacker who knows the defense: terms that he adds to Eq. 5.

Not in the paper. The poison evades PIRMs, collides under Algorithm 1's noise
too, or changes pictures smoothly, without the fine grain that a PIRM may see.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, PyTree

from babam_jax.settings import setting

Pixels = Float[Array, 'n h w 3']
EvidenceFn = Callable[[PyTree, Pixels], Float[Array, 'k n']]
_NO_BLUR = 0.01  # pixels; a smaller deviation leaves the picture as it is
_MARGIN = 3.0  # log-odds against poison that evading pictures aim at


@dataclasses.dataclass(frozen=True)
class Adaptive:
  """What the attacker does besides colliding."""

  evade: float = setting(
    0.0,
    "The weight of each PIRM's evidence in the loss, as a share of the initial "
    'feature distance; 0: none is evaded.',
    at_least=0,
  )
  pirm: str = setting(
    'shipped', 'The PIRM that is evaded: the name of a shipped one, or a file.'
  )
  ensemble: tuple[str, ...] = setting(
    (),
    'Further PIRMs that are evaded.',
    each=(str,),
  )
  noise_scale: float = setting(
    0.0,
    'The scale of the Laplacian noise under which the poison must collide, '
    'too; 0: none.',
    unit='gray levels',
    at_least=0,
    at_most=1000,
  )
  smoothness: float = setting(
    0.0,
    'The standard deviation of the blur of the change; 0: no blur.',
    unit='pixels',
    at_least=0,
    at_most=64,
  )


def evasion(evidence: Float[Array, 'k n']) -> Float[Array, ' n']:
  """The loss of being taken for poison by k PIRMs; near 0 where none does."""
  return jax.nn.softplus(evidence + _MARGIN).sum(0)


def under_noise(pixels: Pixels, keys: Key[Array, ' n'], scale: float) -> Pixels:
  """Pixels with noise like Algorithm 1's.

  Args:
    pixels: in [0, 1].
    keys: one for each picture, new ones for each iteration.
    scale: the scale of the noise, in gray levels.
  """
  noise = jax.vmap(lambda key: jax.random.laplace(key, pixels.shape[1:]))(keys)
  return jnp.clip(pixels + scale / 255 * noise, 0, 1)


def blur(delta: Pixels, sigma: float) -> Pixels:
  """A Gaussian blur; the border repeats the nearest pixel."""
  radius = max(1, round(3 * sigma))
  places = jnp.arange(-radius, radius + 1)
  kernel = jnp.exp(-0.5 * (places / max(sigma, _NO_BLUR)) ** 2)
  kernel = kernel / kernel.sum()
  for axis in (1, 2):
    pad = [(0, 0)] * 4
    pad[axis] = (radius, radius)
    padded = jnp.pad(delta, pad, mode='edge')
    length = delta.shape[axis]
    weighted = [
      weight * lax.slice_in_dim(padded, start, start + length, axis=axis)
      for start, weight in enumerate(kernel)
    ]
    delta = functools.reduce(jnp.add, weighted)
  return delta
