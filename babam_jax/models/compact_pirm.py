"""A small poison detector for pictures of any size.

Poison is a faint high-frequency texture: resizing destroys it, and a small crop
shows enough of it. So this network looks at native resolution, trains on crops,
and averages its evidence over the whole picture.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from babam_jax.models import layers

_BLOCK = 2  # pixels a side; folded into channels without loss, for speed
_WIDTHS = (32, 32, 64, 64, 64, 64)
_STRIDES = (1, 2, 1, 2, 1, 1)


def fold_blocks(x: Float[Array, 'n h w c']) -> Float[Array, 'n i j d']:
  """Space-to-depth; an odd last row or column is left out."""
  rows, columns = x.shape[1] // _BLOCK, x.shape[2] // _BLOCK
  x = x[:, : rows * _BLOCK, : columns * _BLOCK]
  x = x.reshape(len(x), rows, _BLOCK, columns, _BLOCK, -1)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(len(x), rows, columns, -1)


class CompactPirm(nn.Module):
  """Six 3x3 convolutions with BatchNorm, then an average over positions."""

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> Float[Array, 'n 2']:
    """Logits of (clean, poison), for pixels in [0, 1]."""
    x = fold_blocks((images - 0.5) * 4)
    for i, (width, stride) in enumerate(zip(_WIDTHS, _STRIDES, strict=True)):
      x = nn.Conv(
        width, (3, 3), stride, padding=1, use_bias=False, name=f'conv{i + 1}'
      )(x)
      x = nn.relu(layers.BatchNorm(name=f'norm{i + 1}')(x, training))
    return nn.Dense(2, name='logits')(jnp.mean(x, (1, 2)))
