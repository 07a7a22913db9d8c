"""The five networks against torchvision, without PyTorch: `golden/` holds what
torchvision computed from weights that are a formula (see `torch_peer.py`)."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPOSITORY
from golden import synthetic

from babam_jax.models import layers, networks
from babam_jax.models.pretrained import conversion

SIZES = {
  'alexnet': (95, 81),
  'vgg11_bn': (71, 64),
  'vgg16': (71, 64),
  'resnet18': (65, 50),
  'inception_v3': (121, 107),
}
NAMES = tuple(SIZES)


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


@functools.cache
def golden(model):
  path = REPOSITORY / 'tests' / 'golden' / f'{model}.npz'
  with np.load(path) as stored:
    return dict(stored)


@functools.lru_cache(maxsize=1)
def synthetic_variables(model):
  leaves = conversion._leaves(model, 5, 'full').values()
  arrays = {x.source: synthetic.tensor(x.source, x.shape) for x in leaves}
  return conversion.from_torch(model, arrays, 'full', 'synthetic')


@pytest.mark.parametrize('model', NAMES)
def test_evaluation_is_torchvisions(model):
  network = networks.Classifier(model, 5)
  variables = synthetic_variables(model)
  images = synthetic.pictures(2, *SIZES[model])
  expected = golden(model)
  last = networks.ARCHITECTURES[model].taps[-1]

  def objective(variables, images):
    found = network.apply(variables, images)
    return jnp.mean(found[last] ** 2), found

  gradient, found = jax.jit(jax.grad(objective, argnums=1, has_aux=True))(
    variables, images
  )
  assert relative(found['logits'], expected['logits']) <= 1e-4
  for tap in networks.ARCHITECTURES[model].taps:
    thinned = found[tap][:, :: max(1, found[tap].shape[1] // 64)]
    assert relative(thinned, expected[tap]) <= 1e-4, tap
  assert relative(gradient[:, ::7, ::7], expected['gradient']) <= 1e-3


@pytest.mark.parametrize('model', NAMES)
def test_features_are_the_taps_of_the_whole_network(model):
  network = networks.Classifier(model, 5)
  variables = synthetic_variables(model)
  images = synthetic.pictures(2, *SIZES[model])
  tap = networks.ARCHITECTURES[model].taps[-1]
  found = jax.jit(lambda v, x: network.apply(v, x, tap, method='features'))(
    variables, images
  )
  assert found.ndim == 2
  thinned = found[:, :: max(1, found.shape[1] // 64)]
  assert relative(thinned, golden(model)[tap]) <= 1e-4


def without_dropout(monkeypatch):
  monkeypatch.setattr(layers.Dropout, '__call__', lambda self, x, training: x)


@pytest.mark.parametrize('model', ['alexnet', 'vgg11_bn', 'vgg16', 'resnet18'])
def test_training_is_torchvisions(model, monkeypatch):
  without_dropout(monkeypatch)
  network = networks.Classifier(model, 5)
  variables = synthetic_variables(model)
  images = jnp.asarray(synthetic.pictures(2, *SIZES[model]))
  training = layers.Training(
    jax.random.split(jax.random.key(0), 2), jnp.ones(2), None
  )
  found, updated = jax.jit(
    lambda variables: network.apply(
      variables, images, training, mutable=['batch_stats']
    )
  )(variables)
  expected = golden(model)
  assert relative(found['logits'], expected['training_logits']) <= 1e-4
  compare_statistics(model, updated.get('batch_stats', {}), expected, 8)


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
