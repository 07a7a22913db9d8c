"""MobileFaceNet (Chen et al. 2018), trained on faces of 112 pixels a side.

It is twice as wide as the paper's, with its BatchNorm folded into the
convolutions, as exporters to ONNX do. Pictures of other sizes are resized in
the trunk, so that poison can be crafted at any size.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from babam_jax.models import layers
from babam_jax.models.architecture import Architecture, Connection, FileLayer

_SIZE = 112
_SLOPE = 0.25  # of a new PReLU
# channels, units of the blocks inside, of the first block, residual blocks
_STAGES = ((64, 128, 128, 4), (128, 256, 256, 6), (128, 256, 512, 2))
_WIDTH = 512  # of the embedding
STAGE_TAPS = ('stage1', 'stage2', 'stage3')


def _normal(gain: float) -> nn.initializers.Initializer:
  """Kernels that multiply the mean square of their input by `gain`."""
  return nn.initializers.variance_scaling(gain, 'fan_in', 'truncated_normal')


_BEFORE_PRELU = _normal(2 / (1 + _SLOPE**2))
_LINEAR = _normal(1)


class PReLU(nn.Module):
  """ReLU that multiplies what is negative by a slope per channel."""

  @nn.compact
  def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n h w c']:
    initial = nn.initializers.constant(_SLOPE)
    slope = self.param('slope', initial, (x.shape[-1],))
    return jnp.where(x > 0, x, slope * x)


class Depthwise(nn.Module):
  """`layers.depthwise_3x3` with its parameters.

  Attributes:
    stride: in both directions.
  """

  stride: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n i j c']:
    width = x.shape[-1]
    kernel = self.param('kernel', _BEFORE_PRELU, (3, 3, 1, width))
    bias = self.param('bias', nn.initializers.zeros, (width,))
    return layers.depthwise_3x3(x, kernel, self.stride) + bias


class GlobalDepthwise(nn.Module):
  """A depthwise convolution as large as the map: a weighted mean of it."""

  @nn.compact
  def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n c']:
    height, width, channels = x.shape[1:]
    kernel = self.param('kernel', _LINEAR, (height, width, 1, channels))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    return jnp.sum(x * kernel[:, :, 0], (1, 2)) + bias


class Block(nn.Module):
  """1x1 to more channels, a depthwise 3x3, 1x1 to fewer channels.

  Attributes:
    width: output channels.
    inner: channels of the depthwise convolution.
    stride: its stride.
    gain: of the last convolution, at random.
  """

  width: int
  inner: int
  stride: int = 1
  gain: float = 1.0

  @nn.compact
  def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n i j d']:
    x = nn.Conv(self.inner, (1, 1), kernel_init=_BEFORE_PRELU, name='expand')(x)
    x = PReLU(name='expand_prelu')(x)
    x = Depthwise(self.stride, name='depthwise')(x)
    x = PReLU(name='depthwise_prelu')(x)
    linear = _normal(self.gain)
    return nn.Conv(self.width, (1, 1), kernel_init=linear, name='project')(x)


class Stage(nn.Module):
  """A block that halves the map, and residual ones.

  The random residual blocks add little each, so that activations keep their
  size.

  Attributes:
    width: output channels.
    inner: channels inside the residual blocks.
    first: channels inside the first block.
    blocks: residual blocks.
  """

  width: int
  inner: int
  first: int
  blocks: int

  @nn.compact
  def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n i j d']:
    x = Block(self.width, self.first, 2, name='block0')(x)
    gain = 1 / self.blocks
    for block in range(1, self.blocks + 1):
      name = f'block{block}'
      x = x + Block(self.width, self.inner, gain=gain, name=name)(x)
    return x


class Trunk(nn.Module):
  """Maps pixels in [0, 1] to stage1 ... stage3 (flattened) and embedding."""

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    x = 2 * layers.resized(images, _SIZE) - 1
    x = nn.Conv(
      64, (3, 3), 2, ((1, 1), (1, 1)), kernel_init=_BEFORE_PRELU, name='conv1'
    )(x)
    x = PReLU(name='conv1_prelu')(x)
    x = PReLU(name='conv2_prelu')(Depthwise(name='conv2')(x))
    taps = {}
    for tap, shape in zip(STAGE_TAPS, _STAGES, strict=True):
      x = Stage(*shape, name=tap)(x)
      taps[tap] = x.reshape(len(x), -1)
    x = nn.Conv(_WIDTH, (1, 1), kernel_init=_BEFORE_PRELU, name='conv3')(x)
    x = GlobalDepthwise(name='pool')(PReLU(name='conv3_prelu')(x))
    embedding = nn.Dense(_WIDTH, kernel_init=_LINEAR, name='embedding')(x)
    return taps | {'embedding': embedding}


def _layers() -> list[FileLayer]:
  """The trunk's layers, from front to back."""
  found: list[FileLayer] = []

  def add(name: str, takes: tuple[int, ...] | None = None, **properties) -> int:
    """Adds a layer, which takes the one before if nothing is said."""
    number = len(found)
    takes = (number - 1,) if takes is None else takes
    found.append(FileLayer(name, Connection(takes, **properties)))
    return number

  add('conv1', (), stride=2, padding=1)
  add('conv1_prelu')
  add('conv2', padding=1, groups=64)
  added = (add('conv2_prelu'),)
  for stage, shape in zip(STAGE_TAPS, _STAGES, strict=True):
    _, inner, first, blocks = shape
    for number in range(blocks + 1):
      block = f'{stage}/block{number}'
      stride, groups = (1, inner) if number else (2, first)
      add(f'{block}/expand', added)
      add(f'{block}/expand_prelu')
      add(f'{block}/depthwise', stride=stride, padding=1, groups=groups)
      add(f'{block}/depthwise_prelu')
      last = add(f'{block}/project')
      added = (*added, last) if number else (last,)
  add('conv3', added)
  add('conv3_prelu')
  add('pool', groups=_WIDTH)
  add('embedding')
  return found


ARCHITECTURE = Architecture(
  trunk=Trunk,
  head=lambda num_classes, width: layers.DenseHead(num_classes),
  taps=(*STAGE_TAPS, 'embedding'),
  last=('fc',),
  smallest=1,
  channels=_WIDTH,
  trained_on=_SIZE,
  file_format='onnx',
  file_layers=tuple(_layers()),
)
