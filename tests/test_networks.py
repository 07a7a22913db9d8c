"""Networks against torchvision, without PyTorch: `golden/` holds what
torchvision computed from weights that are a formula (see `torch_peer.py`)."""

from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPOSITORY
from golden import synthetic

from babam_jax.models import layers, networks
from babam_jax.models.pretrained import conversion


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  'model,unfrozen,frozen',
  [
    ('alexnet', 57_012_034, 8_194),
    ('vgg11_bn', 128_780_034, 8_194),
    ('resnet18', 11_177_538, 1_026),
    ('inception_v3', 24_348_900, 5_636),
  ],
)
def test_trainable_parameters_are_those_of_table_3(model, unfrozen, frozen):
  params = networks.variable_shapes(model, 2, networks.WIDTH)['params']
  assert count(params) == unfrozen
  last = networks.ARCHITECTURES[model].last
  assert count([params['head'][name] for name in last]) == frozen


def relative(found, expected):
  return np.abs(found - expected).max() / np.abs(expected).max()


class Peer(NamedTuple):
  """A network with the weights of `synthetic`, and what torchvision computed
  from them in double precision."""

  model: str
  network: networks.Classifier
  variables: Any
  expected: dict[str, np.ndarray]

  @property
  def taps(self):
    return networks.ARCHITECTURES[self.model].taps

  @property
  def images(self):
    return jnp.asarray(synthetic.pictures(2, *synthetic.SIZES[self.model]))


# A module's tests run network by network: each is set up once.
@pytest.fixture(
  scope='module',
  params=[
    pytest.param(x, marks=[pytest.mark.slow] if x == 'inception_v3' else [])
    for x in synthetic.SIZES
  ],
)
def peer(request):
  model = request.param
  leaves = conversion._leaves(model, 5, 'full').values()
  arrays = {x.source: synthetic.tensor(x.source, x.shape) for x in leaves}
  with np.load(REPOSITORY / 'tests' / 'golden' / f'{model}.npz') as stored:
    expected = dict(stored)
  return Peer(
    model=model,
    network=networks.Classifier(model, 5),
    variables=conversion.from_torch(model, arrays, 'full', 'synthetic'),
    expected=expected,
  )


def thinned(tap):
  return tap[:, :: max(1, tap.shape[1] // 64)]


def test_evaluation_is_torchvisions(peer):
  found = jax.jit(peer.network.apply)(peer.variables, peer.images)
  assert relative(found['logits'], peer.expected['logits']) <= 1e-4
  for tap in peer.taps:
    assert relative(thinned(found[tap]), peer.expected[tap]) <= 1e-4, tap


def as_double(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def test_features_and_their_gradient_are_torchvisions(peer):
  """In double precision: in single, one processor's rounding tips a ReLU or a
  maximum that another's does not, and moves gradients by half a percent."""
  size = synthetic.GRADIENT_SIZES[peer.model]
  images = as_double(synthetic.pictures(1, *size))

  def objective(images, variables):
    found = peer.network.apply(
      variables, images, peer.taps[-1], method='features'
    )
    return jnp.mean(found**2), found

  with jax.enable_x64(True):
    gradient, features = jax.device_get(
      jax.jit(jax.grad(objective, has_aux=True))(
        images, as_double(peer.variables)
      )
    )
  assert gradient.dtype == features.dtype == np.float64
  assert features.ndim == 2
  assert relative(thinned(features), peer.expected['features']) <= 1e-6
  assert relative(gradient[:, ::5, ::5], peer.expected['gradient']) <= 1e-6


def without_dropout(monkeypatch):
  monkeypatch.setattr(layers.Dropout, '__call__', lambda self, x, training: x)


# InceptionV3's auxiliary head needs larger pictures: `test_parity.py`.
@pytest.mark.parametrize(
  'peer', ['alexnet', 'vgg11_bn', 'vgg16', 'resnet18'], indirect=True
)
def test_training_is_torchvisions(peer, monkeypatch):
  without_dropout(monkeypatch)
  training = layers.Training(
    jax.random.split(jax.random.key(0), 2), jnp.ones(2), None
  )
  found, updated = jax.jit(
    lambda variables: peer.network.apply(
      variables, peer.images, training, mutable=['batch_stats']
    )
  )(peer.variables)
  expected = peer.expected
  assert relative(found['logits'], expected['training_logits']) <= 1e-4
  compare_statistics(peer.model, updated.get('batch_stats', {}), expected, 8)


def compare_statistics(model, updated, expected, shown):
  flat = flax.traverse_util.flatten_dict({'batch_stats': updated}, sep='/')
  leaves = conversion._leaves(model, 5, 'full')
  stats = {name for name in expected if 'running' in name}
  assert stats == {leaves[name].source for name in flat}
  for name, value in flat.items():
    found = np.asarray(value)[:shown]
    assert relative(found, expected[leaves[name].source]) <= 1e-4, name


def test_inception_in_training_refuses_what_its_auxiliary_head_cannot_see():
  network = networks.Classifier('inception_v3', 2)
  shapes = networks.variable_shapes('inception_v3', 2, 1)
  training = layers.Training(
    jax.random.split(jax.random.key(0), 1), jnp.ones(1), None
  )
  with pytest.raises(ValueError, match='auxiliary head needs'):
    jax.eval_shape(
      lambda v: network.apply(
        v, jnp.zeros((1, 150, 150, 3)), training, mutable=['batch_stats']
      ),
      shapes,
    )


def test_auxiliary_logits_are_there_at_299():
  network = networks.Classifier('inception_v3', 2)
  shapes = networks.variable_shapes('inception_v3', 2, 1)
  found = jax.eval_shape(
    lambda v: network.apply(v, jnp.zeros((3, 299, 299, 3))), shapes
  )
  assert found['logits'].shape == found['aux_logits'].shape == (3, 2)
  assert found['features'].shape == (3, 2048 + 768)
