"""VGG11 with BatchNorm, and VGG16, as in torchvision (Simonyan & Zisserman
2015); and the paper's PIRM on VGG16.

They take pictures of 32 pixels or more a side, and were trained on 224.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from babam_jax.models import layers
from babam_jax.models.architecture import Architecture

_WIDTHS = (64, 128, 256, 512, 512)
VGG11_DEPTHS = (1, 1, 2, 2, 2)
VGG16_DEPTHS = (2, 2, 3, 3, 3)


class ConvBlocks(nn.Module):
  """Blocks of 3x3 convolutions, each followed by 2x2 max-pooling.

  Attributes:
    depths: convolutions in each of the five blocks.
    batch_norm: whether BatchNorm follows each convolution.
  """

  depths: tuple[int, ...]
  batch_norm: bool

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> Float[Array, 'n i j 512']:
    x = layers.normalize(images)
    for block, (width, depth) in enumerate(
      zip(_WIDTHS, self.depths, strict=True), start=1
    ):
      for layer in range(1, depth + 1):
        number = f'{block}_{layer}'
        x = nn.Conv(width, (3, 3), padding=1, name=f'conv{number}')(x)
        if self.batch_norm:
          x = layers.BatchNorm(name=f'norm{number}')(x, training)
        x = nn.relu(x)
      x = layers.max_pool(x, 2, 2)
    return x


class Trunk(ConvBlocks):
  """Maps pixels in [0, 1] to pool5 on a 7x7 grid, flattened."""

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n 25088']]:
    x = super().__call__(images, training)
    return {'pool5': layers.adaptive_average_pool(x, 7).reshape(len(x), -1)}


class Head(nn.Module):
  """The three dense layers; dropout stands after fc6 and fc7.

  Attributes:
    num_classes: the width of the last layer.
    width: units of fc6 and fc7; torchvision's have 4096.
  """

  num_classes: int
  width: int = 4096

  @nn.compact
  def __call__(
    self,
    pool5: Float[Array, 'n 25088'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    he = nn.initializers.he_normal()
    fc6 = nn.relu(nn.Dense(self.width, kernel_init=he, name='fc6')(pool5))
    x = layers.Dropout(0.5, layer=6)(fc6, training)
    fc7 = nn.relu(nn.Dense(self.width, kernel_init=he, name='fc7')(x))
    x = layers.Dropout(0.5, layer=7)(fc7, training)
    logits = nn.Dense(self.num_classes, name='fc8')(x)
    return {'fc6': fc6, 'fc7': fc7, 'logits': logits}


def torch_names(depths: tuple[int, ...], batch_norm: bool) -> dict[str, str]:
  """Our layers, and what torchvision calls them."""
  names, index = {}, 0
  for block, depth in enumerate(depths, start=1):
    for layer in range(1, depth + 1):
      names[f'trunk/conv{block}_{layer}'] = f'features.{index}'
      if batch_norm:
        names[f'trunk/norm{block}_{layer}'] = f'features.{index + 1}'
      index += 3 if batch_norm else 2  # convolution, (BatchNorm,) ReLU
    index += 1  # the pool
  head = {'head/fc6': 0, 'head/fc7': 3, 'head/fc8': 6}
  return names | {ours: f'classifier.{i}' for ours, i in head.items()}


class PaperPirm(nn.Module):
  """The paper's PIRM: VGG16, two dense layers of 512, dropout 0.35 (4.10)."""

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> Float[Array, 'n 2']:
    """Logits of (clean, poison)."""
    x = ConvBlocks(VGG16_DEPTHS, batch_norm=False, name='trunk')(images)
    x = x.reshape(len(x), -1)
    for i in (1, 2):
      x = nn.relu(nn.Dense(512, name=f'dense{i}')(x))
      x = layers.Dropout(0.35, layer=i)(x, training)
    return nn.Dense(2, name='logits')(x)


def _architecture(
  depths: tuple[int, ...], batch_norm: bool, official: str
) -> Architecture:
  return Architecture(
    trunk=lambda: Trunk(depths, batch_norm),
    head=Head,
    taps=('pool5', 'fc6', 'fc7'),
    head_taps=('fc6', 'fc7'),
    last=('fc8',),
    torch_name=torch_names(depths, batch_norm).__getitem__,
    smallest=32,
    channels=512,
    flattened=(512, 7, 7),
    official=official,
  )


VGG11_BN = _architecture(VGG11_DEPTHS, True, 'vgg11_bn-6002323d.pth')
VGG16 = _architecture(VGG16_DEPTHS, False, 'vgg16-397923af.pth')
