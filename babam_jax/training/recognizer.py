"""Face-recognition models, frozen and unfrozen (paper 3.2, Table 3)."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PyTree, Shaped, UInt8

from babam_jax.models import heads, initial, layers, networks
from babam_jax.training import augment, parallel
from babam_jax.training.train import Network

FROZEN = ('trunk', 'all_but_last', 'none')
_CHANGE_STREAM = 1 << 16  # far from any layer's number
_AUXILIARY_WEIGHT = 0.4  # of Inception's second loss (Szegedy et al. 2016)


def to_unit(
  images: UInt8[Array, 'n h w c'] | Float[Array, 'n h w c'],
) -> Float[Array, 'n h w c']:
  """Scales gray levels 0..255 to [0, 1]; floats are in [0, 1] already."""
  if jnp.issubdtype(images.dtype, jnp.floating):
    return images
  return images.astype(jnp.float32) / 255


def as_input(
  model: str, images: UInt8[Array, 'n h w 3'] | Float[Array, 'n h w 3']
) -> Float[Array, 'n i j 3']:
  """Pictures (8-bit, or in [0, 1]) as `model` takes them: in [0, 1], resized if
  its input size is fixed."""
  architecture = networks.ARCHITECTURES[model]
  images = to_unit(images)
  if not architecture.fixed_size:
    return images
  return layers.resized(images, architecture.trained_on)


@dataclasses.dataclass(frozen=True)
class Recognizer:
  """A face-recognition model to be trained.

  With a frozen trunk its inputs are the trunk's features, else pictures.

  Attributes:
    model: one of `networks.ARCHITECTURES`.
    num_classes: the number of identities.
    width: units of fc6 and fc7, where the model has them; torchvision: 4096.
    pretrained: one of `weights.PRETRAINED`.
    frozen: 'trunk': only the dense layers train; 'all_but_last': only the new
      last one (and the auxiliary one) does, the paper's "frozen"; 'none':
      everything does. What is frozen normalizes with its running statistics;
      dropout stays active in training.
    logit_adjustment: how far training corrects for unequal class sizes, 0 to
      not at all, 1 in full (Menon et al. 2021, "Long-tail learning via logit
      adjustment", Eq. 10): the log of a class's share, times this, is added
      to its logit in the training loss, and not at test time.
    head: one of `heads.HEADS`.
  """

  model: str
  num_classes: int
  width: int
  pretrained: str
  frozen: str
  logit_adjustment: float
  head: str = heads.DENSE

  @property
  def on_features(self) -> bool:
    """Whether its inputs are features rather than pictures."""
    return self.frozen != 'none'

  @property
  def origin(self) -> initial.Origin:
    """Where its initial variables come from."""
    found = initial.origin(
      self.model, self.num_classes, self.width, self.pretrained, self.head
    )
    if self.head == heads.NEAREST_MEAN:  # its templates are means
      random = [x for x in found.random if x != f'head/{heads.TEMPLATES}']
      return found._replace(random=random)
    return found

  def network(self, seed: int, labels: Int32[np.ndarray, ' n']) -> Network:
    """What `train.fit` trains, on a training set with these labels."""
    variables, _ = initial.variables(
      self.model,
      self.num_classes,
      self.width,
      self.pretrained,
      seed,
      self.head,
    )
    params = variables['params']
    frozen = {'offset': self._offset(labels), 'params': {}}
    if self.on_features:
      stats = {}
      params, frozen['params'] = self._divide(params['head'])
    else:
      stats = variables['batch_stats']
    apply = self._apply_head if self.on_features else self._apply_all
    has_auxiliary = 'AuxLogits_fc' in variables['params']['head']
    loss_weights = (1.0, _AUXILIARY_WEIGHT) if has_auxiliary else (1.0,)
    return Network(apply, params, stats, frozen, loss_weights)

  def network_on_pictures(
    self,
    seed: int,
    labels: Int32[np.ndarray, ' n'],
    change: Callable[[Array, Array], Array],
  ) -> Network:
    """Like `network`, but its inputs are always pictures: for defenses that
    change them in every step.

    Args:
      seed: the seed of the initial parameters.
      labels: the labels of the training set.
      change: `(pixels in [0, 1], one key for each) -> pixels`.
    """
    plain = self.network(seed, labels)
    frozen = plain.frozen
    if self.on_features:
      trunk, _ = initial.trunk(self.model, self.pretrained, seed)
      frozen = frozen | {'trunk': trunk}

    def apply(params, stats, frozen, images, keys, weights):
      # Separate keys: dropout uses the rows' own.
      own = jax.vmap(jax.random.fold_in, (0, None))(keys, _CHANGE_STREAM)
      inputs = change(to_unit(images), own)
      if self.on_features:
        inputs = trunk_features(self.model, frozen['trunk'], inputs)
      return plain.apply(params, stats, frozen, inputs, keys, weights)

    return plain._replace(apply=apply, frozen=frozen)

  def _divide(self, head: PyTree) -> tuple[PyTree, PyTree]:
    """The head's layers that train, and those that do not."""
    last = networks.last_layers(self.model, self.head)
    frozen = {
      name: layer
      for name, layer in head.items()
      if self.frozen == 'all_but_last' and name not in last
    }
    trainable = {n: layer for n, layer in head.items() if n not in frozen}
    return {'head': trainable}, {'head': frozen} if frozen else {}

  def _offset(self, labels: Int32[np.ndarray, ' n']) -> Float[np.ndarray, ' c']:
    counts = np.bincount(labels, minlength=self.num_classes)
    shares = np.maximum(counts, 1) / len(labels)  # a class may be empty
    return (self.logit_adjustment * np.log(shares)).astype(np.float32)

  def _apply_head(self, params, stats, frozen, features, keys, weights):
    outputs = self._outputs(
      {'params': _merge(params, frozen['params'])},
      features,
      layers.Training(keys, weights, parallel.AXIS),
      method='classify',
    )
    return _heads(outputs, frozen['offset']), stats

  def _apply_all(self, params, stats, frozen, images, keys, weights):
    images = jax.vmap(augment.flip)(keys, as_input(self.model, images))
    outputs, updated = self._module.apply(
      {'params': params, 'batch_stats': stats},
      images,
      layers.Training(keys, weights, parallel.AXIS),
      mutable=['batch_stats'],
    )
    return _heads(outputs, frozen['offset']), updated.get('batch_stats', {})

  @property
  def _module(self) -> networks.Classifier:
    return networks.Classifier(
      self.model, self.num_classes, self.width, self.head
    )

  def _outputs(
    self, variables: PyTree, *inputs: Any, method: str | None = None
  ) -> dict[str, Array]:
    """The network's taps and logits, without updating its variables."""
    found = self._module.apply(variables, *inputs, method=method)
    return cast(dict[str, Array], found)

  def logits(self, variables: PyTree, inputs: Array) -> Float[Array, 'n c']:
    """Logits of features (frozen trunk) or 8-bit pictures."""
    if self.on_features:
      outputs = self._outputs(variables, inputs, method='classify')
    else:
      outputs = self._outputs(variables, as_input(self.model, inputs))
    return outputs['logits']

  def whole(self, variables: PyTree, seed: int) -> PyTree:
    """All variables from pictures to logits, a frozen trunk's included."""
    if not self.on_features:
      return variables
    trunk, _ = initial.trunk(self.model, self.pretrained, seed)
    return {
      name: trunk.get(name, {}) | variables.get(name, {})
      for name in ('params', 'batch_stats')
    }

  def logits_of_pictures(
    self, whole: PyTree, images: Array
  ) -> Float[Array, 'n c']:
    """Logits of pictures, with the result of `whole`; differentiable."""
    return self._outputs(whole, as_input(self.model, images))['logits']

  def layers_of_pictures(
    self, whole: PyTree, images: Array
  ) -> list[Shaped[Array, ' n *d']]:
    """What comes out of each hidden layer with weights, before BatchNorm and
    activation, from the first to the last, with the result of `whole`."""
    _, state = self._module.apply(
      whole,
      as_input(self.model, images),
      capture_intermediates=lambda layer, _: layer.has_variable(
        'params', 'kernel'
      ),
      mutable=['intermediates'],
    )
    # In the order of the calls.
    intermediates = cast(dict[str, Any], state)['intermediates']
    found = flax.traverse_util.flatten_dict(intermediates)
    last = networks.last_layers(self.model, self.head)
    return [
      cast(tuple[Array], outputs)[0]
      for (*path, _), outputs in found.items()
      if path[0] == 'trunk' or not set(last) & set(path)
    ]

  def in_training(
    self, variables: PyTree, seed: int, labels: Int32[np.ndarray, ' n']
  ) -> tuple[Callable[..., Float[Array, 'n c']], PyTree, PyTree]:
    """A trained model as in training, to take gradients of its loss.

    Args:
      variables: those of the trained model.
      seed: the seed of the random layers of its trunk.
      labels: the labels of the training set.

    Returns:
      `(params, fixed, pixels) -> logits`, those of the training loss, without
      dropout and without updates of batch statistics; the parameters that
      train; the variables that do not.
    """
    network = self.network(seed, labels)
    whole = self.whole(variables, seed)
    params = matching(network.params, variables['params'])
    fixed = {'whole': whole, 'offset': network.frozen['offset']}
    return self._logits_in_training, params, fixed

  def _logits_in_training(self, params, fixed, images):
    whole = fixed['whole']
    merged = whole | {'params': _merge(whole['params'], params)}
    return self.logits_of_pictures(merged, images) + fixed['offset']

  def activations(
    self, variables: PyTree, inputs: Array
  ) -> Float[Array, 'n d']:
    """The last hidden layer, for the inputs that `logits` takes."""
    tap = networks.last_tap(self.model, self.head)
    if not self.on_features:
      images = as_input(self.model, inputs)
      found = self._module.apply(variables, images, tap, method='features')
      return cast(Array, found)
    outputs = self._outputs(variables, inputs, method='classify')
    return outputs.get(tap, inputs)  # the last tap may be the trunk's


def class_means(
  network: Network,
  embeddings: Float[np.ndarray, 'n d'],
  labels: Int32[np.ndarray, ' n'],
) -> PyTree:
  """The variables of a recognizer whose templates are the means of each class's
  embeddings, of length 1 each; nothing is trained.

  Args:
    network: one with the head 'nearest_mean', on features.
    embeddings: of the training pictures.
    labels: their classes.
  """
  length = np.linalg.norm(embeddings, axis=1, keepdims=True)
  unit = embeddings / np.maximum(length, 1e-6)
  kernel = np.zeros_like(network.params['head'][heads.TEMPLATES]['kernel'])
  for label in np.unique(labels):
    kernel[:, label] = unit[labels == label].mean(0)
  params = {'head': {heads.TEMPLATES: {'kernel': kernel}}}
  return trained_variables(network, params, network.stats)


def _heads(outputs: dict[str, Array], offset: Array) -> tuple[Array, ...]:
  names = ('logits', 'aux_logits')
  return tuple(outputs[name] + offset for name in names if name in outputs)


def _merge(first: PyTree, second: PyTree) -> PyTree:
  """Two trees of different leaves as one."""
  flat = flax.traverse_util.flatten_dict
  return flax.traverse_util.unflatten_dict(flat(first) | flat(second))


def matching(params: PyTree, trained: PyTree) -> PyTree:
  """The trained values of the parameters in `params`."""
  flat = flax.traverse_util.flatten_dict
  found = flat(trained)
  return flax.traverse_util.unflatten_dict(
    {name: found[name] for name in flat(params)}
  )


def trained_variables(
  network: Network, params: PyTree, stats: PyTree
) -> PyTree:
  """All that `Recognizer.logits` needs after training."""
  merged = _merge(params, network.frozen['params'])
  return {'params': merged, 'batch_stats': stats}


def trunk_features(
  model: str,
  variables: PyTree,
  images: UInt8[Array, 'n h w 3'] | Float[Array, 'n h w 3'],
) -> Float[Array, 'n d']:
  """The trunk's output for pictures, 8-bit or in [0, 1]."""
  module = networks.ARCHITECTURES[model].trunk()
  variables = {name: tree.get('trunk', {}) for name, tree in variables.items()}
  taps = module.apply(variables, as_input(model, images))
  return networks.output_of(cast(dict[str, Array], taps))


def flatten(variables: PyTree) -> dict[str, np.ndarray]:
  """Nested variables as `{'params/head/fc8/kernel': ...}`, for storage."""
  flat = flax.traverse_util.flatten_dict(variables, sep='/')
  return {name: np.asarray(value) for name, value in flat.items()}


def unflatten(flat: dict[str, np.ndarray]) -> PyTree:
  """The inverse of `flatten`."""
  tree = flax.traverse_util.unflatten_dict(flat, sep='/')
  return {'batch_stats': {}} | tree
