"""AlexNet as in torchvision (Krizhevsky 2014, "One weird trick").

It takes pictures of 63 pixels or more a side, and was trained on 224.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from babam_jax.models import layers
from babam_jax.models.architecture import Architecture


class Trunk(nn.Module):
  """The five convolutions, from pixels in [0, 1] to pool5, flattened."""

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'n h w 3'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n 9216']]:
    x = layers.normalize(images)
    x = nn.relu(layers.Strided(64, 11, 4, 2, name='conv1')(x))
    x = layers.max_pool(x, 3, 2)
    x = nn.relu(nn.Conv(192, (5, 5), padding=2, name='conv2')(x))
    x = layers.max_pool(x, 3, 2)
    x = nn.relu(nn.Conv(384, (3, 3), padding=1, name='conv3')(x))
    x = nn.relu(nn.Conv(256, (3, 3), padding=1, name='conv4')(x))
    x = nn.relu(nn.Conv(256, (3, 3), padding=1, name='conv5')(x))
    x = layers.max_pool(x, 3, 2)
    return {'pool5': layers.adaptive_average_pool(x, 6).reshape(len(x), -1)}


class Head(nn.Module):
  """The three dense layers; dropout stands before fc6 and fc7.

  Attributes:
    num_classes: the width of the last layer.
    width: units of fc6 and fc7; torchvision's have 4096.
  """

  num_classes: int
  width: int = 4096

  @nn.compact
  def __call__(
    self,
    pool5: Float[Array, 'n 9216'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    he = nn.initializers.he_normal()
    x = layers.Dropout(0.5, layer=6)(pool5, training)
    fc6 = nn.relu(nn.Dense(self.width, kernel_init=he, name='fc6')(x))
    x = layers.Dropout(0.5, layer=7)(fc6, training)
    fc7 = nn.relu(nn.Dense(self.width, kernel_init=he, name='fc7')(x))
    logits = nn.Dense(self.num_classes, name='fc8')(fc7)
    return {'fc6': fc6, 'fc7': fc7, 'logits': logits}


# Our layers, and what torchvision calls them.
TORCH_NAMES = {
  **{
    f'trunk/conv{i}': f'features.{index}'
    for i, index in enumerate((0, 3, 6, 8, 10), start=1)
  },
  'head/fc6': 'classifier.1',
  'head/fc7': 'classifier.4',
  'head/fc8': 'classifier.6',
}


ARCHITECTURE = Architecture(
  trunk=Trunk,
  head=Head,
  taps=('pool5', 'fc6', 'fc7'),
  head_taps=('fc6', 'fc7'),
  last=('fc8',),
  torch_name=TORCH_NAMES.__getitem__,
  smallest=63,
  channels=256,
  flattened=(256, 6, 6),
  official='alexnet-owt-7be5be79.pth',
)
