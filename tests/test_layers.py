import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from babam_jax.models import layers


def slow_max_pool_gradient(x, gradient, window, stride):
  """First maximum of each window, by plain loops."""
  result = np.zeros_like(x)
  count, rows, columns, channels = gradient.shape
  for n in range(count):
    for i in range(rows):
      for j in range(columns):
        for c in range(channels):
          top, left = i * stride, j * stride
          patch = x[n, top : top + window, left : left + window, c]
          a, b = np.unravel_index(np.argmax(patch), patch.shape)
          result[n, top + a, left + b, c] += gradient[n, i, j, c]
  return result


@pytest.mark.parametrize('height,width', [(7, 7), (8, 10), (13, 9)])
@pytest.mark.parametrize('window,stride', [(3, 2), (2, 2)])
@pytest.mark.parametrize('ties', [False, True])
def test_max_pool_gradient(rng, height, width, window, stride, ties):
  x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
  if ties:
    x = np.round(x)
  y, back = jax.vjp(
    lambda x: layers.max_pool(x, window, stride), jnp.asarray(x)
  )
  gradient = rng.normal(size=y.shape).astype(np.float32)
  expected = slow_max_pool_gradient(x, gradient, window, stride)
  np.testing.assert_allclose(back(gradient)[0], expected, atol=1e-6)


@pytest.mark.parametrize('height,width', [(7, 7), (8, 11)])
def test_padded_max_pool_is_flaxs(rng, height, width):
  x = rng.normal(size=(2, height, width, 3)).astype(np.float32) - 5
  sides = ((1, 1), (1, 1))
  plain = lambda x: nn.max_pool(x, (3, 3), (2, 2), sides)  # noqa: E731
  expected, expected_back = jax.vjp(plain, x)
  found, back = jax.vjp(
    lambda x: layers.max_pool(x, 3, 2, padding=1), jnp.asarray(x)
  )
  np.testing.assert_array_equal(found, expected)
  gradient = rng.normal(size=found.shape).astype(np.float32)
  np.testing.assert_allclose(
    back(gradient)[0], expected_back(gradient)[0], atol=1e-6
  )


@pytest.mark.parametrize('height,width', [(63, 63), (64, 70), (97, 66)])
@pytest.mark.parametrize(
  'size,stride,padding,channels',
  [(11, 4, 2, 3), (7, 2, 0, 3), (3, 2, 1, 3), (4, 2, 0, 3), (3, 2, 0, 8)],
)
def test_strided_is_the_plain_convolution(
  rng, height, width, size, stride, padding, channels
):
  x = rng.normal(size=(2, height, width, channels)).astype(np.float32)
  kernel = rng.normal(size=(size, size, channels, 4)).astype(np.float32)

  def plain(x, kernel):
    return lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      ((padding, padding), (padding, padding)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  expected, expected_back = jax.vjp(plain, x, kernel)
  found, back = jax.vjp(
    lambda x, kernel: layers.strided(x, kernel, stride, padding),
    jnp.asarray(x),
    jnp.asarray(kernel),
  )
  np.testing.assert_allclose(found, expected, atol=1e-4)
  gradient = rng.normal(size=expected.shape).astype(np.float32)
  for a, b in zip(back(gradient), expected_back(gradient), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.parametrize('height,width', [(6, 6), (7, 13), (3, 2)])
def test_average_pool_2x2(rng, height, width):
  x = jnp.asarray(rng.normal(size=(2, height, width, 5)).astype(np.float32))
  expected, expected_back = jax.vjp(lambda x: nn.avg_pool(x, (2, 2), (2, 2)), x)
  found, back = jax.vjp(layers.average_pool_2x2, x)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  gradient = rng.normal(size=found.shape).astype(np.float32)
  np.testing.assert_allclose(
    back(gradient)[0], expected_back(gradient)[0], atol=1e-6
  )


@pytest.mark.parametrize('height,width', [(6, 6), (7, 13), (3, 2), (1, 1)])
def test_adaptive_average_pool(rng, height, width):
  x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
  found = layers.adaptive_average_pool(jnp.asarray(x), 6)
  for i in range(6):
    for j in range(6):
      rows = slice(i * height // 6, -(-(i + 1) * height // 6))
      columns = slice(j * width // 6, -(-(j + 1) * width // 6))
      expected = x[:, rows, columns].mean((1, 2))
      np.testing.assert_allclose(found[:, i, j], expected, atol=1e-5)


def in_training(weights):
  keys = jax.random.split(jax.random.key(1), len(weights))
  return layers.Training(keys, jnp.asarray(weights, jnp.float32), None)


def test_batch_norm_is_flaxs_on_one_full_batch(rng):
  """But for the running variance, which is the unbiased one, as in PyTorch."""
  x = jnp.asarray(rng.normal(2, 3, size=(4, 5, 6, 3)), jnp.float32)
  theirs = nn.BatchNorm(use_running_average=False, momentum=0.9)
  ours = layers.BatchNorm()
  variables = theirs.init(jax.random.key(0), x)
  assert jax.tree.structure(variables) == jax.tree.structure(
    ours.init(jax.random.key(0), x, None)
  )
  expected, updated = theirs.apply(variables, x, mutable=['batch_stats'])
  found, stats = ours.apply(
    variables, x, in_training(np.ones(4)), mutable=['batch_stats']
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)
  found, updated = stats['batch_stats'], updated['batch_stats']
  np.testing.assert_allclose(found['mean'], updated['mean'], rtol=1e-4)
  unbiased = 0.9 + 0.1 * np.var(x, (0, 1, 2), ddof=1)
  np.testing.assert_allclose(found['var'], unbiased, rtol=1e-4)


def test_batch_norm_leaves_padding_out(rng):
  x = jnp.asarray(rng.normal(size=(4, 5, 6, 3)), jnp.float32)
  padded = jnp.concatenate([x, 100 + x[:2]])
  norm = layers.BatchNorm()
  variables = norm.init(jax.random.key(0), x, None)
  bare, bare_stats = norm.apply(
    variables, x, in_training(np.ones(4)), mutable=['batch_stats']
  )
  weights = np.array([1.0, 1, 1, 1, 0, 0])
  found, stats = norm.apply(
    variables, padded, in_training(weights), mutable=['batch_stats']
  )
  np.testing.assert_allclose(found[:4], bare, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    stats,
    bare_stats,
  )


def test_dropout_of_a_row_does_not_depend_on_its_batch():
  x = jnp.ones((6, 40))
  training = in_training(np.ones(6))
  dropout = layers.Dropout(0.5, layer=1)
  whole = dropout.apply({}, x, training)
  part = dropout.apply({}, x[4:], training._replace(keys=training.keys[4:]))
  np.testing.assert_array_equal(whole[4:], part)
  assert set(np.unique(whole)) == {0.0, 2.0}
  np.testing.assert_array_equal(dropout.apply({}, x, None), x)
  other = layers.Dropout(0.5, layer=2).apply({}, x, training)
  assert not np.array_equal(whole, other)
