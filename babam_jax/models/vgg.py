"""VGG16 as in torchvision (Simonyan & Zisserman 2015), for the PIRM."""

import flax.linen as nn
from jaxtyping import Array, Float, Key

from babam_jax.models import layers

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # width, depth


class Trunk(nn.Module):
  """Pixels in [0, 1] to the feature map after block 5, flattened."""

  @nn.compact
  def __call__(self, images: Float[Array, 'n h w 3']) -> Float[Array, 'n d']:
    x = layers.normalise(images)
    for block, (width, depth) in enumerate(BLOCKS, start=1):
      for layer in range(1, depth + 1):
        conv = nn.Conv(width, (3, 3), padding=1, name=f'conv{block}_{layer}')
        x = nn.relu(conv(x))
      x = layers.max_pool(x, 2, 2)
    return x.reshape(len(x), -1)


class PaperPirm(nn.Module):
  """The paper's PIRM: VGG16, two dense layers of 512, dropout 0.35 (4.10)."""

  @nn.compact
  def __call__(
    self, images: Float[Array, 'n h w 3'], keys: Key[Array, ' n'] | None = None
  ) -> Float[Array, 'n 2']:
    """Logits of (clean, poison); `keys` switch dropout on for training."""
    x = Trunk(name='trunk')(images)
    for i in (1, 2):
      x = nn.relu(nn.Dense(512, name=f'dense{i}')(x))
      x = layers.Dropout(0.35, layer=i)(x, keys)
    return nn.Dense(2, name='logits')(x)
