"""The networks by name, and what they have in common.

Each is a trunk (convolutions) and a head (dense layers): with a frozen trunk,
its output is computed once per picture and only the head is trained.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from babam_jax import settings
from babam_jax.models import (
  alexnet,
  dlib_resnet,
  heads,
  inception,
  layers,
  mobile_face_net,
  resnet,
  vgg,
)
from babam_jax.models.architecture import Architecture

ARCHITECTURES: dict[str, Architecture] = {
  'alexnet': alexnet.ARCHITECTURE,
  'vgg11_bn': vgg.VGG11_BN,
  'vgg16': vgg.VGG16,
  'resnet18': resnet.ARCHITECTURE,
  'inception_v3': inception.ARCHITECTURE,
  'mobile_face_net': mobile_face_net.ARCHITECTURE,
  'dlib_resnet': dlib_resnet.ARCHITECTURE,
}
WIDTH = 4096  # units of torchvision's fc6 and fc7


class Classifier(nn.Module):
  """One of the networks.

  Attributes:
    model: one of `ARCHITECTURES`.
    num_classes: the width of the last layer.
    width: units of fc6 and fc7, where the network has them.
    head_kind: one of `heads.HEADS`; 'dense' is the network's own.
  """

  model: str
  num_classes: int
  width: int = WIDTH
  head_kind: str = heads.DENSE

  def setup(self):
    """Trunk and head."""
    architecture = ARCHITECTURES[self.model]
    self.trunk = architecture.trunk()
    if self.head_kind == heads.DENSE:
      self.head = architecture.head(self.num_classes, self.width)
    else:
      self.head = heads.CosineHead(self.num_classes)

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


def check_size(model: str, size: int, path: str) -> None:
  """Checks that a network can take pictures of a size.

  Args:
    model: one of `ARCHITECTURES`.
    size: the size of the pictures, in pixels a side.
    path: the path of the setting that chose the network, below `config`.

  Raises:
    UserError: the pictures are too small for the network.
  """
  smallest = ARCHITECTURES[model].smallest
  if size < smallest:
    expected = f'{smallest} pixels or more for config.{path}, {model!r}'
    settings.refuse('data.size', size, expected)


def last_layers(model: str, head_kind: str) -> tuple[str, ...]:
  """The head's layers that depend on the number of classes."""
  if head_kind == heads.DENSE:
    return ARCHITECTURES[model].last
  return (heads.TEMPLATES,)


def last_tap(model: str, head_kind: str) -> str:
  """The last hidden layer."""
  architecture = ARCHITECTURES[model]
  if head_kind == heads.DENSE:
    return architecture.taps[-1]
  return [t for t in architecture.taps if t not in architecture.head_taps][-1]


def output_of(taps: dict[str, Array]) -> Float[Array, 'n d']:
  """The output of a trunk, which is its head's input."""
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
  model: str,
  num_classes: int,
  width: int,
  key: Array,
  head_kind: str = heads.DENSE,
) -> PyTree:
  """Variables before any training, batch statistics included."""
  network = Classifier(model, num_classes, width, head_kind)
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
