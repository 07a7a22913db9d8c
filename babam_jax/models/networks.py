"""The networks, by name: what tells them apart, and what they have in common.

Each is a trunk (convolutions) and a head (dense layers): with a frozen trunk,
its output is computed once per picture and only the head is trained.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from babam_jax.models import alexnet, inception, layers, resnet, vgg


@dataclasses.dataclass(frozen=True)
class Architecture:
  """What tells one network from another.

  Attributes:
    trunk: makes the module from pictures to a dict of taps; the last one is
      what the head takes.
    head: `(num_classes, width)` to the module from the trunk's output to
      'logits' (and 'aux_logits').
    taps: where poison can collide, from front to back.
    last: the head's layers that depend on the number of classes.
    torch_name: what torchvision calls our layer.
    smallest: the least picture, in pixels a side.
    trained_on: the size of the pictures that its ImageNet weights saw.
    flattened: [channels, rows, columns] of the map that the head flattens;
      PyTorch flattens it in this order, we in (rows, columns, channels).
    fixed_size: pictures are resized to `trained_on` for recognition.
    channels: of the last convolution, the last axis of the trunk's output.
  """

  trunk: Callable[[], nn.Module]
  head: Callable[[int, int], nn.Module]
  taps: tuple[str, ...]
  last: tuple[str, ...]
  torch_name: Callable[[str], str]
  smallest: int
  channels: int
  trained_on: int = 224
  flattened: tuple[int, int, int] | None = None
  fixed_size: bool = False


def _vgg(depths: tuple[int, ...], batch_norm: bool) -> Architecture:
  return Architecture(
    trunk=lambda: vgg.Trunk(depths, batch_norm),
    head=vgg.Head,
    taps=('pool5', 'fc6', 'fc7'),
    last=('fc8',),
    torch_name=vgg.torch_names(depths, batch_norm).__getitem__,
    smallest=32,
    channels=512,
    flattened=(512, 7, 7),
  )


ARCHITECTURES = {
  'alexnet': Architecture(
    trunk=alexnet.Trunk,
    head=alexnet.Head,
    taps=('pool5', 'fc6', 'fc7'),
    last=('fc8',),
    torch_name=alexnet.TORCH_NAMES.__getitem__,
    smallest=63,
    channels=256,
    flattened=(256, 6, 6),
  ),
  'vgg11_bn': _vgg(vgg.VGG11_DEPTHS, batch_norm=True),
  'vgg16': _vgg(vgg.VGG16_DEPTHS, batch_norm=False),
  'resnet18': Architecture(
    trunk=resnet.Trunk,
    head=lambda num_classes, width: resnet.Head(num_classes),
    taps=(*resnet.STAGE_TAPS, 'avgpool'),
    last=('fc',),
    torch_name=resnet.torch_name,
    smallest=32,
    channels=512,
  ),
  'inception_v3': Architecture(
    trunk=inception.Trunk,
    head=lambda num_classes, width: inception.Head(num_classes),
    taps=(*inception.BLOCK_TAPS, 'avgpool'),
    last=('fc', 'AuxLogits_fc'),
    torch_name=inception.torch_name,
    smallest=75,
    channels=2048,
    trained_on=299,
    fixed_size=True,
  ),
}
WIDTH = 4096  # of torchvision's fc6 and fc7


class Classifier(nn.Module):
  """One of the networks.

  Attributes:
    model: one of `ARCHITECTURES`.
    num_classes: the width of the last layer.
    width: of fc6 and fc7, where the network has them.
  """

  model: str
  num_classes: int
  width: int = WIDTH

  def setup(self):
    """Trunk and head."""
    architecture = ARCHITECTURES[self.model]
    self.trunk = architecture.trunk()
    self.head = architecture.head(self.num_classes, self.width)

  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    """All taps, 'logits' and, for Inception, 'aux_logits'.

    Args:
      images: pixels in [0, 1].
      training: switches dropout and batch statistics on.
    """
    taps = self.trunk(images, training)
    return taps | self.head(output_of(taps), training)

  def features(
    self, images: Float[Array, 'n h w 3'], tap: str
  ) -> Float[Array, 'n d']:
    """The activations at `tap`, flattened, in evaluation mode."""
    taps = self.trunk(images)
    return taps[tap] if tap in taps else self.head(output_of(taps))[tap]

  def classify(
    self,
    features: Float[Array, 'n d'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    """The head alone, on the trunk's output."""
    return self.head(features, training)


def head_taps(model: str) -> tuple[str, ...]:
  """The taps that lie in the dense layers."""
  taps = ARCHITECTURES[model].taps
  return tuple(tap for tap in taps if tap.startswith('fc'))


def output_of(taps: dict[str, Array]) -> Float[Array, 'n d']:
  """What a trunk hands to its head."""
  return list(taps.values())[-1]


def variable_shapes(model: str, num_classes: int, width: int) -> PyTree:
  """Shapes of all variables: `{'params': ..., 'batch_stats': ...}`."""
  network = Classifier(model, num_classes, width)
  size = ARCHITECTURES[model].trained_on
  return jax.eval_shape(
    lambda key: network.init(key, jnp.zeros((1, size, size, 3))),
    jax.random.key(0),
  )


def random_variables(
  model: str, num_classes: int, width: int, key: Array
) -> PyTree:
  """Variables before any training, batch statistics included."""
  network = Classifier(model, num_classes, width)
  size = ARCHITECTURES[model].trained_on
  init = jax.jit(lambda key: network.init(key, jnp.zeros((1, size, size, 3))))
  return {'batch_stats': {}} | init(key)


def random_trunk(model: str, key: Array) -> PyTree:
  """The trunk's part of `random_variables`, the same for any head."""
  network = Classifier(model, 1, 1)
  size = ARCHITECTURES[model].trained_on

  def init(key: Array) -> PyTree:
    images = jnp.zeros((1, size, size, 3))
    tap = ARCHITECTURES[model].taps[0]
    return network.init(key, images, tap, method='features')

  return {'batch_stats': {}} | jax.jit(init)(key)
