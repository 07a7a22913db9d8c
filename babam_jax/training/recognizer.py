"""Face-recognition models, frozen and unfrozen (paper 3.2, Table 3)."""

import dataclasses

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PyTree, UInt8

from babam_jax import seeds
from babam_jax.models import alexnet, weights
from babam_jax.training import augment
from babam_jax.training.train import Network

MODELS = ('alexnet',)
PRETRAINED = ('trunk', 'none')
FROZEN = ('trunk', 'none')


def to_unit(images: UInt8[Array, 'n h w 3']) -> Float[Array, 'n h w 3']:
  """Grey levels 0..255 to [0, 1]."""
  return images.astype(jnp.float32) / 255


def alexnet_params(
  num_classes: int, width: int, pretrained: str, seed: int
) -> dict[str, PyTree]:
  """Parameters before training: `{'trunk': ..., 'head': ...}`.

  Args:
    num_classes: the width of the last layer.
    width: of fc6 and fc7.
    pretrained: 'trunk': the embedded ImageNet convolutions, random dense
      layers; 'none': all random.
    seed: of the random ones.
  """
  network = alexnet.AlexNet(num_classes, width)
  init = jax.jit(lambda key: network.init(key, jnp.zeros((1, 224, 224, 3))))
  params = init(seeds.jax_key(seed, 'init'))['params']
  if pretrained == 'trunk':
    params['trunk'] = weights.embedded_trunk('alexnet')
  return params


@dataclasses.dataclass(frozen=True)
class Recognizer:
  """A face-recognition model to be trained.

  With a frozen trunk its inputs are the trunk's features, else pictures.

  Attributes:
    num_classes: how many identities.
    width: of fc6 and fc7; torchvision's is 4096.
    pretrained: one of `PRETRAINED`.
    frozen: 'trunk': only the dense layers train; 'none': everything does.
    logit_adjustment: how far training corrects for unequal class sizes, 0 to
      not at all, 1 in full (Menon et al. 2021, "Long-tail learning via logit
      adjustment", Eq. 10): the log of a class's share, times this, is added
      to its logit in the training loss, and not at test time.
  """

  num_classes: int
  width: int
  pretrained: str
  frozen: str
  logit_adjustment: float

  @property
  def on_features(self) -> bool:
    """Whether its inputs are features rather than pictures."""
    return self.frozen == 'trunk'

  def network(self, seed: int, labels: Int32[np.ndarray, ' n']) -> Network:
    """What `train.fit` trains, on a training set with these labels."""
    params = alexnet_params(self.num_classes, self.width, self.pretrained, seed)
    if self.on_features:
      params = {'head': params['head']}
    apply = self._apply_head if self.on_features else self._apply_all
    return Network(apply, params, {}, {'offset': self._offset(labels)})

  def _offset(self, labels: Int32[np.ndarray, ' n']) -> Float[np.ndarray, ' c']:
    counts = np.bincount(labels, minlength=self.num_classes)
    shares = np.maximum(counts, 1) / len(labels)  # a class may be empty
    return (self.logit_adjustment * np.log(shares)).astype(np.float32)

  def _apply_head(self, params, stats, frozen, features, keys, weights):
    logits = self._model.apply(
      {'params': params}, features, keys, method='classify'
    )
    return logits + frozen['offset'], stats

  def _apply_all(self, params, stats, frozen, images, keys, weights):
    images = jax.vmap(augment.flip)(keys, to_unit(images))
    logits = self._model.apply({'params': params}, images, keys)
    return logits + frozen['offset'], stats

  @property
  def _model(self) -> alexnet.AlexNet:
    return alexnet.AlexNet(self.num_classes, self.width)

  def logits(self, params: PyTree, inputs: Array) -> Float[Array, 'n c']:
    """Logits of features (frozen trunk) or 8-bit pictures."""
    if self.on_features:
      return self._model.apply({'params': params}, inputs, method='classify')
    return self._model.apply({'params': params}, to_unit(inputs))


def trunk_params(pretrained: str, seed: int) -> PyTree:
  """The trunk's parameters alone, the same as in `alexnet_params`."""
  return {'trunk': alexnet_params(1, 1, pretrained, seed)['trunk']}


def trunk_features(
  params: PyTree, images: UInt8[Array, 'n h w 3']
) -> Float[Array, 'n 9216']:
  """pool5 of 8-bit pictures."""
  return alexnet.Trunk().apply({'params': params['trunk']}, to_unit(images))


def flatten(params: PyTree) -> dict[str, np.ndarray]:
  """Nested parameters as `{'head/fc8/kernel': ...}`, for storage."""
  flat = flax.traverse_util.flatten_dict(params, sep='/')
  return {name: np.asarray(value) for name, value in flat.items()}


def unflatten(flat: dict[str, np.ndarray]) -> PyTree:
  """The inverse of `flatten`."""
  return flax.traverse_util.unflatten_dict(flat, sep='/')
