"""A poison detector that looks past the picture, at its finest texture.

Like `compact_pirm`, but the first filters cannot see plain areas or slopes of
brightness between colors (their weights sum to zero), and strong edges count no
more than faint ones: what is left is the picture's noise, as in steganalysis
(the high-pass filters and truncation of Fridrich and Kodovsky's rich models,
the constrained convolution of Bayar and Stamm). Beside the mean of each feature
over all positions, its spread and its largest value are told.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from babam_jax.models import layers
from babam_jax.models.compact_pirm import fold_blocks

FILTERS = 32  # of the first layer
_WIDTHS = (1, 2, 2, 2, 2)  # times these
_STRIDES = (2, 1, 2, 1, 1)
_COLORS = 3
_LIMIT = 12.0  # gray levels: poison rarely changes more
_HIDDEN = 2  # times the filters
_FAINT = 1e-4  # added to variances: a root has no slope at 0


class HighPass(nn.Module):
  """Convolution of folded blocks whose filters ignore constant pictures, each
  color by itself; its output is limited."""

  filters: int

  @nn.compact
  def __call__(
    self, blocks: Float[Array, 'n i j d']
  ) -> Float[Array, 'n i-2 j-2 f']:
    shape = (3, 3, blocks.shape[-1], self.filters)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    # Channels are (row, column, color) of a block.
    by_color = kernel.reshape(3, 3, -1, _COLORS, self.filters)
    by_color -= by_color.mean((0, 1, 2), keepdims=True)
    found = lax.conv_general_dilated(
      blocks,
      by_color.reshape(shape),
      (1, 1),
      'VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return jnp.clip(found / _LIMIT, -1, 1)


class ResidualPirm(nn.Module):
  """High-pass filters, five 3x3 convolutions, statistics of the features.

  Attributes:
    filters: of the first layer; the others have as many, or twice as many.
  """

  filters: int = FILTERS

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> Float[Array, 'n 2']:
    """Logits of (clean, poison), for pixels in [0, 1]."""
    x = HighPass(self.filters, name='high_pass')(fold_blocks(images * 255))
    for i, (width, stride) in enumerate(zip(_WIDTHS, _STRIDES, strict=True), 1):
      x = nn.Conv(
        width * self.filters,
        (3, 3),
        stride,
        padding=1,
        use_bias=False,
        name=f'conv{i}',
      )(x)
      x = nn.relu(layers.BatchNorm(name=f'norm{i}')(x, training))
    mean = jnp.mean(x, (1, 2))
    spread = jnp.sqrt(jnp.var(x, (1, 2)) + _FAINT)
    told = jnp.concatenate([mean, spread, jnp.max(x, (1, 2))], axis=-1)
    hidden = nn.relu(nn.Dense(_HIDDEN * self.filters, name='hidden')(told))
    return nn.Dense(2, name='logits')(hidden)
