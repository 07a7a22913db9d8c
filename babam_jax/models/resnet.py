"""ResNet18 as in torchvision (He et al. 2016), trained on 224 pixels a side."""

import re

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from babam_jax.models import layers
from babam_jax.models.architecture import Architecture

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # width, stride
_BLOCKS = 2  # in each stage
STAGE_TAPS = ('layer1', 'layer2', 'layer3', 'layer4')


class BasicBlock(nn.Module):
  """Two 3x3 convolutions around a shortcut.

  Attributes:
    width: output channels.
    stride: stride of the first convolution.
  """

  width: int
  stride: int

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n h w c'], training: layers.Training | None
  ) -> Float[Array, 'n i j d']:
    shortcut = x
    if self.stride != 1 or x.shape[-1] != self.width:
      shortcut = layers.conv(
        self.width, (1, 1), self.stride, name='downsample_0'
      )(x)
      shortcut = layers.BatchNorm(name='downsample_1')(shortcut, training)
    x = layers.conv(self.width, (3, 3), self.stride, (1, 1), name='conv1')(x)
    x = nn.relu(layers.BatchNorm(name='bn1')(x, training))
    x = layers.conv(self.width, (3, 3), 1, (1, 1), name='conv2')(x)
    x = layers.BatchNorm(name='bn2')(x, training)
    return nn.relu(x + shortcut)


class Trunk(nn.Module):
  """Maps pixels in [0, 1] to layer1 ... layer4 (flattened) and avgpool."""

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    x = layers.normalize(images)
    x = layers.conv(64, (7, 7), 2, (3, 3), name='conv1')(x)
    x = nn.relu(layers.BatchNorm(name='bn1')(x, training))
    x = layers.max_pool(x, 3, 2, padding=1)
    taps = {}
    for tap, (width, stride) in zip(STAGE_TAPS, _STAGES, strict=True):
      for block in range(_BLOCKS):
        name = f'{tap}_{block}'
        x = BasicBlock(width, stride if block == 0 else 1, name=name)(
          x, training
        )
      taps[tap] = x.reshape(len(x), -1)
    return taps | {'avgpool': jnp.mean(x, (1, 2))}


def torch_name(layer: str) -> str:
  """What torchvision calls our layer."""
  name = layer.removeprefix('trunk/').removeprefix('head/')
  return re.sub(r'_(\d)', r'.\1', name.replace('/', '.'))


ARCHITECTURE = Architecture(
  trunk=Trunk,
  head=lambda num_classes, width: layers.DenseHead(num_classes),
  taps=(*STAGE_TAPS, 'avgpool'),
  last=('fc',),
  torch_name=torch_name,
  smallest=32,
  channels=512,
  official='resnet18-f37072fd.pth',
)
