"""Networks that hide a number in a picture, and read it: a small form of
StegaStamp (Tancik et al. 2020), of which ISSBA (Li et al. 2021) is made.

Smaller than these: pictures of any size are seen as tiles of 64 pixels, each of
which holds the whole number; the reader has no spatial transformer.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

TILE = 64  # pixels a side
_COARSE = 8  # pixels a side, of what the number becomes first, and of features
_WIDTHS = (16, 32, 64)


def _conv(width: int, stride: int, name: str) -> nn.Conv:
  return nn.Conv(width, (3, 3), stride, padding=1, name=name)


def _enlarged(
  x: Float[Array, 'n h w c'], times: int
) -> Float[Array, 'n i j c']:
  return x.repeat(times, 1).repeat(times, 2)


class Hider(nn.Module):
  """A U-Net: picture and number in, the change of the picture out."""

  @nn.compact
  def __call__(
    self, images: Float[Array, 'n h w 3'], bits: Float[Array, 'n b']
  ) -> Float[Array, 'n h w 3']:
    """The change, for pixels in [0, 1] and bits that are 0 or 1."""
    height, width = images.shape[1:3]
    side = TILE // _COARSE
    coarse = nn.relu(nn.Dense(side * side * 3, name='secret')(bits - 0.5))
    tile = _enlarged(coarse.reshape(-1, side, side, 3), _COARSE)
    times = -(-height // TILE), -(-width // TILE)
    tiled = jnp.tile(tile, (1, *times, 1))[:, :height, :width]
    x = jnp.concatenate([images - 0.5, tiled], axis=-1)
    seen = []
    for i, features in enumerate(_WIDTHS):
      x = nn.relu(_conv(features, 1 + (i > 0), f'down{i}')(x))
      seen.append(x)
    for i in range(len(_WIDTHS) - 2, -1, -1):
      beside = seen[i]
      x = _enlarged(x, 2)[:, : beside.shape[1], : beside.shape[2]]
      x = jnp.concatenate([x, beside], axis=-1)
      x = nn.relu(_conv(_WIDTHS[i], 1, f'up{i}')(x))
    return _conv(3, 1, 'change')(x)


class Reader(nn.Module):
  """Reads the number: features at each place of a tile, over all tiles.

  Attributes:
    num_bits: of the number.
  """

  num_bits: int

  @nn.compact
  def __call__(self, images: Float[Array, 'n h w 3']) -> Float[Array, 'n b']:
    """Logits of the bits, for pixels in [0, 1] of a tile's size or more."""
    rows, columns = (side // TILE for side in images.shape[1:3])
    x = images[:, : rows * TILE, : columns * TILE] - 0.5
    for i, features in enumerate((32, 64, 64)):
      x = nn.relu(_conv(features, 2, f'down{i}')(x))
    side = TILE // _COARSE
    x = x.reshape(len(x), rows, side, columns, side, x.shape[-1])
    x = x.mean((1, 3)).reshape(len(x), -1)
    x = nn.relu(nn.Dense(128, name='hidden')(x))
    return nn.Dense(self.num_bits, name='bits')(x)
