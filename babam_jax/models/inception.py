"""InceptionV3 as in torchvision (Szegedy et al. 2016), with its auxiliary head.

It takes pictures of 75 pixels or more a side; it was trained, and trains, on
299. Layers are named as in torchvision.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from babam_jax.models import layers
from babam_jax.models.architecture import Architecture

_AVGPOOL_WIDTH = 2048
_AUXILIARY_WIDTH = 768
_SMALLEST_AUXILIARY = 17  # rows and columns of Mixed_6e
BLOCK_TAPS = ('Mixed_5d', 'Mixed_6e', 'Mixed_7c')


class ConvNorm(nn.Module):
  """Convolution, BatchNorm, ReLU.

  Attributes:
    width: output channels.
    kernel: height and width of the kernel.
    stride: stride of the convolution.
    padding: rows and columns of zeros on each side.
  """

  width: int
  kernel: tuple[int, int]
  stride: int = 1
  padding: tuple[int, int] = (0, 0)

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n h w c'], training: layers.Training | None
  ) -> Float[Array, 'n i j d']:
    x = layers.conv(
      self.width, self.kernel, self.stride, self.padding, name='conv'
    )(x)
    return nn.relu(layers.BatchNorm(1e-3, name='bn')(x, training))


class _Block(nn.Module):
  """The convolution that the blocks of InceptionV3 share."""

  def conv(self, name, width, kernel, stride=1):
    """A `ConvNorm`; with stride 1 it keeps height and width."""
    padding = (0, 0) if stride > 1 else (kernel[0] // 2, kernel[1] // 2)
    return ConvNorm(width, kernel, stride, padding, name=name)


class InceptionA(_Block):
  """Figure 5 of the paper: 1x1, 5x5, double 3x3, pool.

  Attributes:
    pool_width: channels of the pool branch.
  """

  pool_width: int

  @nn.compact
  def __call__(self, x, training):
    branch1 = self.conv('branch1x1', 64, (1, 1))(x, training)
    branch5 = self.conv('branch5x5_1', 48, (1, 1))(x, training)
    branch5 = self.conv('branch5x5_2', 64, (5, 5))(branch5, training)
    branch3 = self.conv('branch3x3dbl_1', 64, (1, 1))(x, training)
    branch3 = self.conv('branch3x3dbl_2', 96, (3, 3))(branch3, training)
    branch3 = self.conv('branch3x3dbl_3', 96, (3, 3))(branch3, training)
    pool = layers.average_pool_3x3(x)
    pool = self.conv('branch_pool', self.pool_width, (1, 1))(pool, training)
    return jnp.concatenate([branch1, branch5, branch3, pool], -1)


class InceptionB(_Block):
  """Halves the grid: 3x3, double 3x3, max-pool."""

  @nn.compact
  def __call__(self, x, training):
    branch3 = self.conv('branch3x3', 384, (3, 3), 2)(x, training)
    double = self.conv('branch3x3dbl_1', 64, (1, 1))(x, training)
    double = self.conv('branch3x3dbl_2', 96, (3, 3))(double, training)
    double = self.conv('branch3x3dbl_3', 96, (3, 3), 2)(double, training)
    return jnp.concatenate([branch3, double, layers.max_pool(x, 3, 2)], -1)


class InceptionC(_Block):
  """Figure 6: 7x7 convolutions as pairs of 1x7 and 7x1.

  Attributes:
    width: channels inside the 7x7 branches.
  """

  width: int

  @nn.compact
  def __call__(self, x, training):
    width, tall, wide = self.width, (7, 1), (1, 7)
    branch1 = self.conv('branch1x1', 192, (1, 1))(x, training)
    seven = self.conv('branch7x7_1', width, (1, 1))(x, training)
    seven = self.conv('branch7x7_2', width, wide)(seven, training)
    seven = self.conv('branch7x7_3', 192, tall)(seven, training)
    double = self.conv('branch7x7dbl_1', width, (1, 1))(x, training)
    double = self.conv('branch7x7dbl_2', width, tall)(double, training)
    double = self.conv('branch7x7dbl_3', width, wide)(double, training)
    double = self.conv('branch7x7dbl_4', width, tall)(double, training)
    double = self.conv('branch7x7dbl_5', 192, wide)(double, training)
    pool = layers.average_pool_3x3(x)
    pool = self.conv('branch_pool', 192, (1, 1))(pool, training)
    return jnp.concatenate([branch1, seven, double, pool], -1)


class InceptionD(_Block):
  """Halves the grid: 3x3, 7x7 then 3x3, max-pool."""

  @nn.compact
  def __call__(self, x, training):
    branch3 = self.conv('branch3x3_1', 192, (1, 1))(x, training)
    branch3 = self.conv('branch3x3_2', 320, (3, 3), 2)(branch3, training)
    seven = self.conv('branch7x7x3_1', 192, (1, 1))(x, training)
    seven = self.conv('branch7x7x3_2', 192, (1, 7))(seven, training)
    seven = self.conv('branch7x7x3_3', 192, (7, 1))(seven, training)
    seven = self.conv('branch7x7x3_4', 192, (3, 3), 2)(seven, training)
    return jnp.concatenate([branch3, seven, layers.max_pool(x, 3, 2)], -1)


class InceptionE(_Block):
  """Figure 7: branches that fan out to 1x3 and 3x1."""

  @nn.compact
  def __call__(self, x, training):
    tall, wide = (3, 1), (1, 3)
    branch1 = self.conv('branch1x1', 320, (1, 1))(x, training)
    three = self.conv('branch3x3_1', 384, (1, 1))(x, training)
    three_a = self.conv('branch3x3_2a', 384, wide)(three, training)
    three_b = self.conv('branch3x3_2b', 384, tall)(three, training)
    double = self.conv('branch3x3dbl_1', 448, (1, 1))(x, training)
    double = self.conv('branch3x3dbl_2', 384, (3, 3))(double, training)
    double_a = self.conv('branch3x3dbl_3a', 384, wide)(double, training)
    double_b = self.conv('branch3x3dbl_3b', 384, tall)(double, training)
    pool = layers.average_pool_3x3(x)
    pool = self.conv('branch_pool', 192, (1, 1))(pool, training)
    return jnp.concatenate(
      [branch1, three_a, three_b, double_a, double_b, pool], -1
    )


class Auxiliary(nn.Module):
  """The auxiliary branch up to its dense layer, on Mixed_6e."""

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n h w 768'], training: layers.Training | None
  ) -> Float[Array, 'n 768']:
    if min(x.shape[1:3]) < _SMALLEST_AUXILIARY:
      if training is not None:
        raise ValueError(
          f'The auxiliary head needs a map of {_SMALLEST_AUXILIARY} pixels a '
          f'side, found {x.shape[1:3]}: train on larger pictures.'
        )
      return jnp.zeros((len(x), _AUXILIARY_WIDTH), x.dtype)
    x = nn.avg_pool(x, (5, 5), (3, 3))
    x = ConvNorm(128, (1, 1), name='conv0')(x, training)
    x = ConvNorm(_AUXILIARY_WIDTH, (5, 5), name='conv1')(x, training)
    return jnp.mean(x, (1, 2))


class Trunk(nn.Module):
  """Maps pixels in [0, 1] to the taps and to the two dense layers' inputs.

  'features' holds avgpool and, after it, the auxiliary branch's 768 values
  (zeros where a picture is too small for it: an error in training only).
  """

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    x = images * 2 - 1  # torchvision's transform_input, in one step
    x = ConvNorm(32, (3, 3), 2, name='Conv2d_1a_3x3')(x, training)
    x = ConvNorm(32, (3, 3), name='Conv2d_2a_3x3')(x, training)
    x = ConvNorm(64, (3, 3), 1, (1, 1), name='Conv2d_2b_3x3')(x, training)
    x = layers.max_pool(x, 3, 2)
    x = ConvNorm(80, (1, 1), name='Conv2d_3b_1x1')(x, training)
    x = ConvNorm(192, (3, 3), name='Conv2d_4a_3x3')(x, training)
    x = layers.max_pool(x, 3, 2)
    for name, pool_width in (('5b', 32), ('5c', 64), ('5d', 64)):
      x = InceptionA(pool_width, name=f'Mixed_{name}')(x, training)
    mixed_5d = x
    x = InceptionB(name='Mixed_6a')(x, training)
    for name, width in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
      x = InceptionC(width, name=f'Mixed_{name}')(x, training)
    mixed_6e = x
    auxiliary = Auxiliary(name='AuxLogits')(mixed_6e, training)
    x = InceptionD(name='Mixed_7a')(x, training)
    for name in ('7b', '7c'):
      x = InceptionE(name=f'Mixed_{name}')(x, training)
    avgpool = jnp.mean(x, (1, 2))
    maps = zip(BLOCK_TAPS, (mixed_5d, mixed_6e, x), strict=True)
    return {
      **{tap: y.reshape(len(y), -1) for tap, y in maps},
      'avgpool': avgpool,
      'features': jnp.concatenate([avgpool, auxiliary], -1),
    }


class Head(nn.Module):
  """The dense layer and, for training, the auxiliary one.

  Attributes:
    num_classes: the width of both.
  """

  num_classes: int

  @nn.compact
  def __call__(
    self,
    features: Float[Array, 'n 2816'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    avgpool = features[:, :_AVGPOOL_WIDTH]
    auxiliary = features[:, _AVGPOOL_WIDTH:]
    x = layers.Dropout(0.5, layer=1)(avgpool, training)
    return {
      'logits': nn.Dense(self.num_classes, name='fc')(x),
      'aux_logits': nn.Dense(self.num_classes, name='AuxLogits_fc')(auxiliary),
    }


def torch_name(layer: str) -> str:
  """What torchvision calls our layer."""
  name = layer.removeprefix('trunk/').removeprefix('head/')
  return name.replace('/', '.').replace('AuxLogits_fc', 'AuxLogits.fc')


ARCHITECTURE = Architecture(
  trunk=Trunk,
  head=lambda num_classes, width: Head(num_classes),
  taps=(*BLOCK_TAPS, 'avgpool'),
  last=('fc', 'AuxLogits_fc'),
  torch_name=torch_name,
  smallest=75,
  channels=2048,
  trained_on=299,
  fixed_size=True,
  official='inception_v3_google-0cc3c7bd.pth',
)
