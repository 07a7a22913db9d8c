"""What tells people apart by an embedding: enrolment, as people do it."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from babam_jax.models import layers

DENSE, COSINE, NEAREST_MEAN = 'dense', 'cosine', 'nearest_mean'
HEADS = (DENSE, COSINE, NEAREST_MEAN)
SCALE = 30.0  # of cosines, to be logits (Wang et al. 2017, "NormFace")
TEMPLATES = 'templates'


class CosineHead(nn.Module):
  """The cosines between an embedding and a template of each class (Wang et al.
  2017, "NormFace").

  Attributes:
    num_classes: the number of classes.
  """

  num_classes: int

  @nn.compact
  def __call__(
    self,
    features: Float[Array, 'n d'],
    training: layers.Training | None = None,
  ) -> dict[str, Float[Array, 'n _']]:
    kernel = Templates(self.num_classes, name=TEMPLATES)(features.shape[-1])
    return {'logits': SCALE * _unit(features, 1) @ _unit(kernel, 0)}


class Templates(nn.Module):
  """A vector for each class.

  Attributes:
    num_classes: the number of classes.
  """

  num_classes: int

  @nn.compact
  def __call__(self, length: int) -> Float[Array, 'd c']:
    shape = (length, self.num_classes)
    return self.param('kernel', nn.initializers.lecun_normal(), shape)


def _unit(x: Float[Array, 'n m'], axis: int) -> Float[Array, 'n m']:
  """Of length 1 along an axis."""
  square = jnp.sum(x**2, axis, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(square, 1e-12))
