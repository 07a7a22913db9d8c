import jax
import jax.numpy as jnp
import pytest

from babam_jax.models import alexnet, vgg, weights


def count(shapes):
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def shapes(model, images, *args, **kwargs):
  return jax.eval_shape(
    lambda key: model.init(key, images, *args, **kwargs), jax.random.key(0)
  )['params']


def test_parameters_are_those_of_table_3():
  found = shapes(alexnet.AlexNet(2), jnp.zeros((1, 224, 224, 3)))
  assert count(found) == 57_012_034
  assert count(found['head']['fc8']) == 8_194  # frozen


@pytest.mark.parametrize('tap,width', [('pool5', 9216), ('fc6', 4096)])
def test_feature_taps(tap, width):
  model = alexnet.AlexNet(2)
  images = jnp.zeros((2, 80, 64, 3))
  found = jax.eval_shape(
    lambda key: model.init_with_output(key, images, tap, method='features')[0],
    jax.random.key(0),
  )
  assert found.shape == (2, width)


@pytest.mark.parametrize(
  'name,model,size',
  [('alexnet', alexnet.Trunk(), 224), ('vgg16', vgg.Trunk(), 64)],
)
def test_embedded_trunk_fits_the_model(name, model, size):
  expected = shapes(model, jnp.zeros((1, size, size, 3)))
  found = weights.embedded_trunk(name)
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)


def test_paper_pirm_has_two_dense_layers_of_512():
  found = shapes(vgg.PaperPirm(), jnp.zeros((1, 178, 218, 3)))
  assert found['dense1']['kernel'].shape == (5 * 6 * 512, 512)
  assert found['dense2']['kernel'].shape == (512, 512)
