"""dlib's network for faces, 150 pixels a side (King 2017, "High quality face
recognition with deep metric learning"): a ResNet of 29 convolutions.

It is the network of the package `face_recognition`. Persons are told apart by
the plain distance of embeddings, same below 0.6. Its affine layers are folded
into the convolutions. Pictures of other sizes are resized in the trunk.
"""

from collections.abc import Iterator

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from babam_jax.models import layers
from babam_jax.models.architecture import Architecture, FileLayer

_SIZE = 150
_MEAN = (122.782, 117.001, 104.298)  # gray levels
_SCALE = 256
# channels, whether the map is halved first, plain blocks
_STAGES = ((32, False, 3), (64, True, 3), (128, True, 2), (256, True, 2))
_LAST = (256, True, 0)
_WIDTH = 128  # of the embedding
STAGE_TAPS = ('level4', 'level3', 'level2', 'level1', 'level0')
_FOLDED = dict(zip(STAGE_TAPS, (*_STAGES, _LAST), strict=True))


class Block(nn.Module):
  """Two 3x3 convolutions around a shortcut.

  Attributes:
    width: output channels.
    halves: whether the map is halved; dlib then pads nothing.
    gain: of the last convolution, at random.
  """

  width: int
  halves: bool
  gain: float

  @nn.compact
  def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n i j d']:
    linear = nn.initializers.variance_scaling(
      self.gain, 'fan_in', 'truncated_normal'
    )
    if self.halves:
      y = layers.Strided(self.width, 3, 2, 0, name='conv1')(x)
      shortcut = layers.average_pool_2x2(x)
    else:
      he = nn.initializers.he_normal()
      y = nn.Conv(self.width, (3, 3), kernel_init=he, name='conv1')(x)
      shortcut = x
    y = nn.Conv(self.width, (3, 3), kernel_init=linear, name='conv2')(
      nn.relu(y)
    )
    return nn.relu(_sum(y, shortcut))


def _sum(
  x: Float[Array, 'n _ _ _'], y: Float[Array, 'n _ _ _']
) -> Float[Array, 'n h w c']:
  """The sum of maps of unlike shapes: zeros are added at the end of each axis,
  as in dlib."""
  shape = [max(sides) for sides in zip(x.shape, y.shape, strict=True)]

  def padded(z: Array) -> Array:
    missing = (
      (0, all_ - own) for all_, own in zip(shape, z.shape, strict=True)
    )
    return jnp.pad(z, tuple(missing))

  return padded(x) + padded(y)


class Trunk(nn.Module):
  """Maps pixels in [0, 1] to level4 ... level0 (flattened) and embedding."""

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    x = layers.resized(images, _SIZE)
    x = (x * 255 - jnp.array(_MEAN)) / _SCALE
    x = layers.Strided(32, 7, 2, 0, name='conv1')(x)
    x = layers.max_pool(nn.relu(x), 3, 2)
    taps = {}
    for tap, (width, halves, plain) in _FOLDED.items():
      gain = 1 / (halves + plain)
      for block in range(halves + plain):
        first = halves and block == 0
        x = Block(width, first, gain, name=f'{tap}_{block}')(x)
      taps[tap] = x.reshape(len(x), -1)
    dense = nn.Dense(_WIDTH, use_bias=False, name='embedding')
    return taps | {'embedding': dense(x.mean((1, 2)))}


def _layer_names() -> Iterator[str]:
  """The trunk's layers, from front to back."""
  yield 'conv1'
  for tap, (_, halves, plain) in _FOLDED.items():
    for block in range(halves + plain):
      yield from (f'{tap}_{block}/conv1', f'{tap}_{block}/conv2')
  yield 'embedding'


ARCHITECTURE = Architecture(
  trunk=Trunk,
  head=lambda num_classes, width: layers.DenseHead(num_classes),
  taps=(*STAGE_TAPS, 'embedding'),
  last=('fc',),
  smallest=1,
  channels=_WIDTH,
  trained_on=_SIZE,
  file_layers=tuple(map(FileLayer, _layer_names())),
  file_format='dlib',
)
