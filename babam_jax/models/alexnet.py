"""AlexNet as in torchvision (Krizhevsky 2014, "One weird trick").

The trunk (five convolutions) and the head (three dense layers) are modules of
their own: with a frozen trunk, its output `pool5` is computed once per picture
and only the head is trained.
"""

import flax.linen as nn
from jaxtyping import Array, Float, Key

from babam_jax.models import layers

TAPS = ('pool5', 'fc6', 'fc7')


class Trunk(nn.Module):
  """Pixels in [0, 1] to pool5, flattened in (row, column, channel) order."""

  @nn.compact
  def __call__(self, images: Float[Array, 'n h w 3']) -> Float[Array, 'n 9216']:
    x = layers.normalise(images)
    x = nn.relu(layers.AlexNetStem(64, name='conv1')(x))
    x = layers.max_pool(x, 3, 2)
    x = nn.relu(nn.Conv(192, (5, 5), padding=2, name='conv2')(x))
    x = layers.max_pool(x, 3, 2)
    x = nn.relu(nn.Conv(384, (3, 3), padding=1, name='conv3')(x))
    x = nn.relu(nn.Conv(256, (3, 3), padding=1, name='conv4')(x))
    x = nn.relu(nn.Conv(256, (3, 3), padding=1, name='conv5')(x))
    x = layers.max_pool(x, 3, 2)
    return layers.adaptive_average_pool(x, 6).reshape(len(x), -1)


class Head(nn.Module):
  """pool5 to fc6, fc7 (both after ReLU) and logits.

  Dropout stands before fc6 and fc7, as in torchvision.

  Attributes:
    num_classes: the width of the last layer.
    width: of fc6 and fc7; torchvision's is 4096.
  """

  num_classes: int
  width: int = 4096

  @nn.compact
  def __call__(
    self, pool5: Float[Array, 'n 9216'], keys: Key[Array, ' n'] | None = None
  ) -> dict[str, Float[Array, 'n _']]:
    he = nn.initializers.he_normal()
    x = layers.Dropout(0.5, layer=6)(pool5, keys)
    fc6 = nn.relu(nn.Dense(self.width, kernel_init=he, name='fc6')(x))
    x = layers.Dropout(0.5, layer=7)(fc6, keys)
    fc7 = nn.relu(nn.Dense(self.width, kernel_init=he, name='fc7')(x))
    logits = nn.Dense(self.num_classes, name='fc8')(fc7)
    return {'fc6': fc6, 'fc7': fc7, 'logits': logits}


class AlexNet(nn.Module):
  """The whole network. Input: 63 pixels or more a side, 224 as trained.

  Attributes:
    num_classes: the width of the last layer.
    width: of fc6 and fc7; torchvision's is 4096.
  """

  num_classes: int
  width: int = 4096

  def setup(self):
    """Trunk and head."""
    self.trunk = Trunk()
    self.head = Head(self.num_classes, self.width)

  def __call__(
    self, images: Float[Array, 'n h w 3'], keys: Key[Array, ' n'] | None = None
  ) -> Float[Array, 'n c']:
    """Logits; `keys` (one per picture) switch dropout on for training."""
    return self.head(self.trunk(images), keys)['logits']

  def features(
    self, images: Float[Array, 'n h w 3'], tap: str
  ) -> Float[Array, 'n d']:
    """The activations at `tap`, one of `TAPS`, in evaluation mode."""
    pool5 = self.trunk(images)
    return pool5 if tap == 'pool5' else self.head(pool5)[tap]

  def classify(
    self, pool5: Float[Array, 'n 9216'], keys: Key[Array, ' n'] | None = None
  ) -> Float[Array, 'n c']:
    """Logits from the trunk's output."""
    return self.head(pool5, keys)['logits']
