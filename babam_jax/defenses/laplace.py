"""Laplace noise at 16 random bits a value, in one pass over the pictures.

The bits are Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"), JAX's own generator, written out so that XLA fuses it with
what uses the bits: JAX's version draws 64 bits per value and writes them to
memory. Sixteen bits are enough for pictures of 256 gray levels: 15 choose a
magnitude by the inverse of the distribution function, one the sign.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_MAGNITUDES = 1 << 15
_PER_BLOCK = 4  # values from one block of 64 bits
LARGEST = float(-np.log(0.5 / _MAGNITUDES))  # noise at scale 1: 11.1

Mechanism = Callable[
  [UInt8[Array, 'n m'], Float[Array, 'n m']], UInt8[Array, 'n m']
]


def threefry(
  key: tuple[UInt32[Array, '*#n'], UInt32[Array, '*#n']],
  counter: tuple[UInt32[Array, '*#n'], UInt32[Array, '*#n']],
) -> tuple[UInt32[Array, '*n'], UInt32[Array, '*n']]:
  """64 random bits for each key and counter: Threefry-2x32 with 20 rounds.

  Keys and counters are broadcast to a common shape.
  """
  keys = (*key, key[0] ^ key[1] ^ _PARITY)
  a, b = counter[0] + keys[0], counter[1] + keys[1]
  for group in range(5):
    for turn in _ROTATIONS[group % 2]:
      a += b
      b = a ^ ((b << np.uint32(turn)) | (b >> np.uint32(32 - turn)))
    a += keys[(group + 1) % 3]
    b += keys[(group + 2) % 3] + np.uint32(group + 1)
  return a, b


def standard(bits: UInt32[Array, '*n']) -> Float[Array, '*n']:
  """Laplace(0, 1) from the lower 16 bits, between -`LARGEST` and `LARGEST`."""
  share = ((bits >> 1) % _MAGNITUDES).astype(jnp.float32) + 0.5
  magnitude = -jnp.log(share / _MAGNITUDES)
  return jnp.where(bits & 1, magnitude, -magnitude)


def apply(
  mechanism: Mechanism,
  keys: UInt32[Array, 'n 2'],
  images: UInt8[Array, 'n h w c'],
  scales: Float[Array, ' n'],
) -> UInt8[Array, 'n h w c']:
  """`mechanism(pixels, noise)` with Laplace(0, scale) noise for each pixel.

  Args:
    mechanism: an element-wise function; it is given the pixels in four parts.
    keys: the key of each picture's noise.
    images: gray levels.
    scales: the scale of each picture's noise, in gray levels.
  """
  count, size = len(images), images[0].size
  blocks = -(-size // _PER_BLOCK)
  pixels = images.reshape(count, size)
  pixels = jnp.pad(pixels, ((0, 0), (0, blocks * _PER_BLOCK - size)))
  first, second = threefry(
    (keys[:, :1], keys[:, 1:]),
    (lax.iota(jnp.uint32, blocks)[None], jnp.zeros((1, 1), jnp.uint32)),
  )
  bits = (first, first >> 16, second, second >> 16)
  parts = jnp.split(pixels, _PER_BLOCK, axis=1)
  perturbed = [
    mechanism(part, scales[:, None] * standard(b))
    for part, b in zip(parts, bits, strict=True)
  ]
  return jnp.concatenate(perturbed, 1)[:, :size].reshape(images.shape)
