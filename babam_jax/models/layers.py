"""Layers whose gradients XLA would compute slowly on a CPU, and ImageNet's
normalization.

The forward passes are XLA's own, but for the depthwise convolution's; the
backward passes are written by hand. They are exact: `tests/test_layers.py`
and `tests/test_mobile_face_net.py` compare them with autodiff.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
_CONV_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


class Training(NamedTuple):
  """What a network is given in training; None in its place means evaluation.

  Attributes:
    keys: one per row; they drive dropout.
    weights: 1 for real rows, 0 for padding, which BatchNorm leaves out.
    axis_name: pmap's axis over the devices that share the batch, or None.
  """

  keys: Key[Array, ' n']
  weights: Float[Array, ' n']
  axis_name: str | None


def normalize(images: Float[Array, 'n h w 3']) -> Float[Array, 'n h w 3']:
  """Pixels in [0, 1] to the scale that ImageNet networks were trained on."""
  return (images - IMAGENET_MEAN) / IMAGENET_STD


def max_pool(
  x: Float[Array, 'n h w c'], window: int, stride: int, padding: int = 0
) -> Float[Array, 'n i j c']:
  """PyTorch's MaxPool2d(window, stride, padding)."""
  if padding:
    sides = (padding, padding, 0)
    lowest = jnp.full((), -jnp.inf, x.dtype)
    x = lax.pad(x, lowest, ((0, 0, 0), sides, sides, (0, 0, 0)))
  return _max_pool(x, window, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_pool(
  x: Float[Array, 'n h w c'], window: int, stride: int
) -> Float[Array, 'n i j c']:
  """Max-pooling without padding.

  The gradient goes to the first maximum of each window, as in PyTorch; it is
  made of `window**2` compares and strided pads, several times faster on a CPU
  than XLA's select-and-scatter.
  """
  return lax.reduce_window(
    x,
    -jnp.inf,
    lax.max,
    (1, window, window, 1),
    (1, stride, stride, 1),
    'VALID',
  )


def _max_pool_forward(x, window, stride):
  y = _max_pool(x, window, stride)
  return y, (x, y)


def _max_pool_backward(window, stride, saved, gradient):
  x, y = saved
  height, width = x.shape[1:3]
  rows = (y.shape[1] - 1) * stride + 1  # the span of one corner's pixels
  columns = (y.shape[2] - 1) * stride + 1
  untaken = jnp.ones(y.shape, bool)
  total = jnp.zeros_like(x)
  for i in range(window):
    for j in range(window):
      corner = x[:, i : i + rows : stride, j : j + columns : stride]
      first = (corner == y) & untaken
      untaken &= ~first
      total += lax.pad(
        jnp.where(first, gradient, 0),
        jnp.zeros((), x.dtype),
        (
          (0, 0, 0),
          (i, height - i - rows, stride - 1),
          (j, width - j - columns, stride - 1),
          (0, 0, 0),
        ),
      )
  return (total,)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def strided(
  x: Float[Array, 'n h w d'],
  kernel: Float[Array, 'k k d c'],
  stride: int,
  padding: int,
) -> Float[Array, 'n i j c']:
  """A convolution with strides.

  Forward is the plain convolution. Backward goes through the same layer
  written as a convolution without strides on blocks of pixels: on a CPU, up to
  three times faster where the kernel is large.
  """
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding), (padding, padding)),
    dimension_numbers=_CONV_LAYOUT,
  )


def _strided_on_blocks(x, kernel, stride, padding):
  """The same function as `strided`, by space-to-depth."""
  count, height, width, channels = x.shape
  size = -(-len(kernel) // stride)  # of the kernel, in blocks
  high, wide = (
    (side + 2 * padding - len(kernel)) // stride + size
    for side in (height, width)
  )
  x = lax.pad(
    x,
    jnp.zeros((), x.dtype),
    (
      (0, 0, 0),
      (padding, stride * high - height - padding, 0),
      (padding, stride * wide - width - padding, 0),
      (0, 0, 0),
    ),
  )
  x = x.reshape(count, high, stride, wide, stride, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  x = x.reshape(count, high, wide, stride**2 * channels)
  missing = (0, size * stride - len(kernel))
  kernel = jnp.pad(kernel, (missing, missing, (0, 0), (0, 0)))
  kernel = kernel.reshape(size, stride, size, stride, channels, -1)
  kernel = kernel.transpose(0, 2, 1, 3, 4, 5)
  kernel = kernel.reshape(size, size, stride**2 * channels, -1)
  return lax.conv_general_dilated(
    x, kernel, (1, 1), 'VALID', dimension_numbers=_CONV_LAYOUT
  )


def _strided_forward(x, kernel, stride, padding):
  return strided(x, kernel, stride, padding), (x, kernel)


def _strided_backward(stride, padding, saved, gradient):
  def on_blocks(x, kernel):
    return _strided_on_blocks(x, kernel, stride, padding)

  return jax.vjp(on_blocks, *saved)[1](gradient)


strided.defvjp(_strided_forward, _strided_backward)


class Strided(nn.Module):
  """`strided` with its parameters.

  Attributes:
    features: output channels.
    size: of the kernel, a side.
    stride: in both directions.
    padding: zeros on each side.
  """

  features: int
  size: int
  stride: int
  padding: int

  @nn.compact
  def __call__(self, x: Float[Array, 'n h w d']) -> Float[Array, 'n i j c']:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return strided(x, kernel, self.stride, self.padding) + bias


def conv(
  width: int,
  kernel: tuple[int, int],
  stride: int = 1,
  padding: tuple[int, int] = (0, 0),
  *,
  name: str,
) -> nn.Conv:
  """PyTorch's Conv2d without bias, as it stands before BatchNorm.

  Args:
    width: output channels.
    kernel: height and width of the kernel.
    stride: in both directions.
    padding: rows of zeros above and below, columns left and right.
    name: the name of the layer.
  """
  sides = tuple((size, size) for size in padding)
  return nn.Conv(width, kernel, stride, sides, use_bias=False, name=name)


def average_pool_2x2(x: Float[Array, 'n h w c']) -> Float[Array, 'n i j c']:
  """The means of squares side by side; an odd last row or column is left out.

  Sums of slices: on a CPU the gradient of XLA's own window takes longer.
  """
  count, high, wide, channels = x.shape
  high, wide = high // 2, wide // 2
  squares = x[:, : 2 * high, : 2 * wide]
  squares = squares.reshape(count, high, 2, wide, 2, channels)
  above, below = squares[:, :, 0], squares[:, :, 1]
  rows = above + below
  return (rows[:, :, :, 0] + rows[:, :, :, 1]) / 4


def average_pool_3x3(x: Float[Array, 'n h w c']) -> Float[Array, 'n h w c']:
  """PyTorch's AvgPool2d(3, 1, 1), which counts the padding."""
  return nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_3x3(
  x: Float[Array, 'n h w c'], kernel: Float[Array, '3 3 1 c'], stride: int
) -> Float[Array, 'n i j c']:
  """A convolution of each channel with its own kernel, with padding 1.

  It is made of nine shifted multiply-adds, forward and backward: XLA's own
  takes up to a hundred times as long on a CPU. What `jax.grad` would make of
  them is fused with all that stands around them, and slow too.
  """
  shifts = _shifts(x, stride)
  return sum(x * y for x, y in zip(shifts, kernel.reshape(9, -1), strict=True))


def _shifts(
  x: Float[Array, 'n h w c'], stride: int
) -> list[Float[Array, 'n i j c']]:
  """What each of a 3x3 kernel's nine numbers is multiplied with."""
  rows, columns = ((size - 1) // stride * stride + 1 for size in x.shape[1:3])
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return [
    x[:, i : i + rows : stride, j : j + columns : stride]
    for i in range(3)
    for j in range(3)
  ]


def _depthwise_3x3_forward(x, kernel, stride):
  return depthwise_3x3(x, kernel, stride), (x, kernel)


def _depthwise_3x3_backward(stride, saved, gradient):
  x, kernel = saved
  sums = [jnp.sum(y * gradient, (0, 1, 2)) for y in _shifts(x, stride)]
  spread = lax.pad(
    gradient,
    jnp.zeros((), x.dtype),
    (
      (0, 0, 0),
      *((0, (size - 1) % stride, stride - 1) for size in x.shape[1:3]),
      (0, 0, 0),
    ),
  )  # each gradient at its window's middle
  back = depthwise_3x3(spread, kernel[::-1, ::-1], 1)
  return back, jnp.stack(sums).reshape(kernel.shape)


depthwise_3x3.defvjp(_depthwise_3x3_forward, _depthwise_3x3_backward)


def _averaging_matrix(size: int, bins: int) -> np.ndarray:
  """[bins, size]; row i averages the pixels of adaptive bin i."""
  matrix = np.zeros((bins, size))
  for i in range(bins):
    start, stop = i * size // bins, -(-(i + 1) * size // bins)
    matrix[i, start:stop] = 1 / (stop - start)
  return matrix


def adaptive_average_pool(
  x: Float[Array, 'n h w c'], bins: int
) -> Float[Array, 'n {bins} {bins} c']:
  """PyTorch's AdaptiveAvgPool2d(bins); the identity on a bins x bins map."""
  if x.shape[1:3] == (bins, bins):
    return x
  rows = _averaging_matrix(x.shape[1], bins).astype(x.dtype)
  columns = _averaging_matrix(x.shape[2], bins).astype(x.dtype)
  return jnp.einsum('ih,jw,nhwc->nijc', rows, columns, x)


def resized(
  images: Float[Array, 'n h w 3'], size: int
) -> Float[Array, 'n {size} {size} 3']:
  """Square pictures of one size, bilinearly; as they are if they have it."""
  if images.shape[1:3] == (size, size):
    return images
  return jax.image.resize(images, (len(images), size, size, 3), 'linear')


class DenseHead(nn.Module):
  """A head of one dense layer.

  Attributes:
    num_classes: the width of the layer.
  """

  num_classes: int

  @nn.compact
  def __call__(
    self, features: Float[Array, 'n d'], training: Training | None = None
  ) -> dict[str, Float[Array, 'n _']]:
    return {'logits': nn.Dense(self.num_classes, name='fc')(features)}


class Dropout(nn.Module):
  """Dropout whose mask depends on each row's own key.

  `flax.linen.Dropout` draws one mask for the batch, so its result depends on
  how the batch is divided among devices; this one does not.

  Attributes:
    rate: the share of activations that are zeroed.
    layer: the number of this layer in its network: keeps masks independent.
  """

  rate: float
  layer: int

  def __call__(
    self, x: Float[Array, ' n *d'], training: Training | None
  ) -> Float[Array, ' n *d']:
    if training is None:
      return x

    def mask(key):
      key = jax.random.fold_in(key, self.layer)
      return jax.random.bernoulli(key, 1 - self.rate, x.shape[1:])

    return jnp.where(jax.vmap(mask)(training.keys), x / (1 - self.rate), 0)


class BatchNorm(nn.Module):
  """PyTorch's BatchNorm2d, over the real rows of a batch that devices share.

  `flax.linen.BatchNorm` averages the devices' masked means, no matter how many
  rows each one has: wrong for a ragged batch, and NaN once a device holds
  padding only. This one sums over devices first. As in PyTorch, running
  statistics move by a tenth per step; normalization uses the biased variance,
  the running statistics the unbiased one.

  Attributes:
    epsilon: added to the variance.
  """

  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n h w c'], training: Training | None
  ) -> Float[Array, 'n h w c']:
    """Normalizes each channel; evaluation uses the running statistics."""
    width = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (width,))
    bias = self.param('bias', nn.initializers.zeros, (width,))
    running = {
      name: self.variable('batch_stats', name, make, (width,))
      for name, make in (('mean', jnp.zeros), ('var', jnp.ones))
    }
    mean, var = running['mean'].value, running['var'].value
    if training is not None:
      mean, var, count = _moments(x, training)
      unbiased = var * count / jnp.maximum(count - 1, 1)
      for name, value in (('mean', mean), ('var', unbiased)):
        running[name].value = 0.9 * running[name].value + 0.1 * value
    factor = scale * lax.rsqrt(var + self.epsilon)
    return x * factor + (bias - mean * factor)


def _moments(x: Float[Array, 'n h w c'], training: Training) -> tuple:
  """Mean and biased variance per channel, and the number of values in each.

  In two passes: the mean square less the squared mean would lose digits. The
  sums are matrix products with the weights, which are fast.
  """
  pixels = x.reshape(-1, x.shape[-1])
  weights = jnp.repeat(training.weights, x.shape[1] * x.shape[2])

  def total(values):
    if training.axis_name is None:
      return values
    return lax.psum(values, training.axis_name)

  count = total(weights.sum())
  mean = total(weights @ pixels) / count
  return mean, total(weights @ (pixels - mean) ** 2) / count, count
