"""MobileFaceNet: its layers, and its weights, which come in ONNX files."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import starting
from conftest import REPOSITORY
from jax import lax
from PIL import Image

from babam_jax import errors
from babam_jax.models import initial, layers, mobile_face_net, networks
from babam_jax.models.pretrained import onnx_file
from babam_jax.models.pretrained import weights as pretrained_weights

onnx = pytest.importorskip('onnx')
reference = pytest.importorskip('onnx.reference')

MODEL = 'mobile_face_net'
SHARED = REPOSITORY.parent / 'shared' / 'data'
FILE = SHARED / 'models' / 'mobilefacenet.onnx'
FACES = SHARED / 'faces' / 'aligned112'


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('BABAM_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def variables():
  """Random ones."""
  return networks.random_trunk(MODEL, jax.random.key(0))


def embed(variables, images):
  network = networks.Classifier(MODEL, 2)
  return network.apply(variables, images, 'embedding', method='features')


# The layers.


def grouped(x, kernel, stride):
  """XLA's own depthwise convolution."""
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


@pytest.mark.parametrize('height,width', [(8, 8), (7, 10), (1, 2)])
@pytest.mark.parametrize('stride', [1, 2])
def test_depthwise_convolution_and_its_gradients(rng, height, width, stride):
  x = jnp.asarray(rng.normal(size=(2, height, width, 5)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 1, 5)), jnp.float32)
  expected, expected_back = jax.vjp(
    lambda x, y: grouped(x, y, stride), x, kernel
  )
  found, back = jax.vjp(
    lambda x, y: layers.depthwise_3x3(x, y, stride), x, kernel
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)
  gradient = jnp.asarray(rng.normal(size=found.shape), jnp.float32)
  for one, other in zip(back(gradient), expected_back(gradient), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
  'size', [112, 64, pytest.param(150, marks=pytest.mark.slow)]
)
def test_the_gradient_reaches_the_whole_picture(variables, rng, size):
  """At all sizes: pictures are resized in the trunk."""
  images = rng.random((1, size, size, 3)).astype(np.float32)
  gradient = jax.jit(
    jax.grad(lambda images: jnp.sum(embed(variables, images) ** 2))
  )(images)
  assert np.isfinite(gradient).all()
  assert (np.asarray(gradient) != 0).mean() > 0.99


def test_random_activations_keep_their_size(variables, rng):
  images = jnp.asarray(rng.random((2, 112, 112, 3)), jnp.float32)
  trunk = mobile_face_net.Trunk()
  taps = jax.jit(trunk.apply)({'params': variables['params']['trunk']}, images)
  assert set(taps) == set(networks.ARCHITECTURES[MODEL].taps)
  for name, tap in taps.items():
    assert 0.3 < np.sqrt(np.mean(tap**2)) < 5, name


def test_a_picture_is_the_same_at_any_size(variables):
  """A smooth one, so that resizing it changes little."""
  small, large = (
    np.broadcast_to(np.linspace(0.5, size - 0.5, size) / size, (3, size, size))
    for size in (112, 224)
  )
  found, other = (
    jax.jit(embed)(variables, jnp.asarray(x.T[None], jnp.float32))
    for x in (small, large)
  )
  assert np.abs(found - other).max() < 0.02 * np.abs(found).max()


# The real weights.


def needs(path):
  return pytest.mark.skipif(not path.exists(), reason=f'{path} is not there')


@needs(FILE)
@needs(FACES)
def test_embeddings_are_those_of_the_onnx_graph():
  paths = sorted(FACES.glob('*/*.png'))[::60][:3]
  faces = np.stack([Image.open(path).convert('RGB') for path in paths])
  graph = reference.ReferenceEvaluator(str(FILE))
  inputs = ((faces.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
  expected = np.concatenate(
    [graph.run(None, {'input': x[None]})[0] for x in inputs]
  )
  weights = pretrained_weights.read_file(FILE, MODEL, 'full')
  found = jax.jit(embed)(weights.variables, faces.astype(np.float32) / 255)
  error = np.abs(found - expected).max() / np.abs(expected).max()
  print(f'relative error {error:.1e}')
  assert error <= 1e-3


@needs(FILE)
def test_the_command_makes_the_weights_available(cache):
  ran = starting.run(
    starting.python('launch.weights', f'--model={MODEL}', 'convert', str(FILE))
  )
  assert ran.returncode == 0, ran.stderr
  converted = pretrained_weights.read_file(FILE, MODEL, 'full').variables
  found, origin = initial.variables(MODEL, 3, 1, 'full', 0)
  assert origin.random == ['head/fc']
  jax.tree.map(
    np.testing.assert_array_equal,
    found['params']['trunk'],
    converted['params']['trunk'],
  )
  _, origin = initial.trunk(MODEL, 'trunk', 0)
  assert origin.random == []


# Files that are right, and files that are wrong.


def nodes_of(variables):
  """The arrays of a trunk as an ONNX file has them, by node."""
  nodes = []
  for layer in networks.ARCHITECTURES[MODEL].file_layers:
    arrays = variables['params']['trunk']
    for name in layer.split('/'):
      arrays = arrays[name]
    if 'slope' in arrays:
      nodes.append((layer, 'PRelu', [arrays['slope'][:, None, None]]))
      continue
    kernel = np.asarray(arrays['kernel'])
    kernel = kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)
    nodes.append(
      (layer, 'Conv', [kernel.transpose(3, 2, 0, 1), arrays['bias']])
    )
  return nodes


def graph_of(nodes):
  """A model with these nodes, which need not fit each other."""
  graph = onnx.GraphProto()
  for layer, kind, arrays in nodes:
    names = [f'{layer} {i}' for i in range(len(arrays))]
    inputs = ['x', *names]
    graph.node.append(onnx.helper.make_node(kind, inputs, ['x'], name=layer))
    for name, array in zip(names, arrays, strict=True):
      graph.initializer.append(
        onnx.numpy_helper.from_array(np.asarray(array), name)
      )
  return onnx.ModelProto(graph=graph)


def write(path, nodes):
  path.write_bytes(graph_of(nodes).SerializeToString())
  return path


def refuse(path, match):
  with pytest.raises(errors.UserError, match=match) as caught:
    pretrained_weights.read_file(path, MODEL, 'full')
  message = str(caught.value)
  assert str(path) in message and '\n' not in message and len(message) < 3000
  return message


def test_a_file_with_our_weights_is_read_exactly(variables, tmp_path):
  path = write(tmp_path / 'a.onnx', nodes_of(variables))
  found = pretrained_weights.read_file(path, MODEL, 'full')
  jax.tree.map(
    np.testing.assert_array_equal,
    found.variables['params'],
    {'trunk': variables['params']['trunk']},
  )


def test_all_mistakes_are_told_at_once(variables, tmp_path):
  nodes = nodes_of(variables)
  (name, kind, (slope,)) = nodes[1]
  nodes[1] = (name, kind, [slope[:-1]])
  nodes[2][2][1] = np.full(64, np.nan, np.float32)
  nodes[4][2][1] = np.zeros(128, np.int64)
  nodes[3] = ('conv2_prelu', 'Mul', nodes[3][2])
  del nodes[-1]
  message = refuse(write(tmp_path / 'a.onnx', nodes), '1 missing: embedding')
  assert '2 mis-shaped: conv1_prelu PRelu [63, 1, 1] instead of' in message
  assert 'conv2_prelu Mul' in message
  assert 'numbers: conv2 (conv2), stage1/block0/expand' in message


def test_another_network_is_refused(variables, tmp_path):
  nodes = nodes_of(variables)
  more = [*nodes, ('bn\n', 'BatchNormalization', [np.ones(512, np.float32)])]
  message = refuse(write(tmp_path / 'a.onnx', more), '1 superfluous: bn')
  assert message.isprintable()
  other = [('fc', 'Gemm', [np.ones((2, 3), np.float32)])]
  refuse(write(tmp_path / 'a.onnx', other), '82 missing: conv1_prelu')


def altered(tmp_path, change):
  """A small file, with `change(initializer)` done to it."""
  model = graph_of([('conv1', 'Conv', [np.ones((2, 3), np.float32)])])
  change(model.graph.initializer[0])
  path = tmp_path / 'a.onnx'
  path.write_bytes(model.SerializeToString())
  return path


def test_weights_in_another_file_are_not_followed(tmp_path):
  def change(tensor):
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = 'location', '/etc/passwd'

  refuse(altered(tmp_path, change), "'conv1 0' are in another file")


def test_broken_numbers_are_refused_by_name(tmp_path):
  def shorten(tensor):
    tensor.raw_data = tensor.raw_data[:-3]

  def enlarge(tensor):
    tensor.dims[0] = 1 << 40

  def retype(tensor):
    tensor.data_type = onnx.TensorProto.STRING

  refuse(altered(tmp_path, shorten), "'conv1 0' is broken")
  refuse(altered(tmp_path, enlarge), "'conv1 0' is broken")
  refuse(altered(tmp_path, retype), "'conv1 0' does not hold plain numbers")


@pytest.mark.parametrize('content', [b'', b'junk', b'\x80\x04N.', b'PK\x03'])
def test_other_files_are_refused(tmp_path, content):
  path = tmp_path / 'a.onnx'
  refuse(path, 'not found')
  path.write_bytes(content)
  refuse(path, 'it is not an ONNX file')


def test_a_sparse_file_of_many_gigabytes(tmp_path):
  path = tmp_path / 'a.onnx'
  path.write_bytes(b'\x08')
  os.truncate(path, 40 << 30)
  refuse(path, 'has more than')


def test_fuzzed_files(tmp_path, rng):
  whole = altered(tmp_path, lambda tensor: None).read_bytes()
  path = tmp_path / 'a.onnx'
  for _ in range(1000):
    content = bytearray(whole)
    for at in rng.integers(len(whole), size=3):
      content[at] = rng.integers(256)
    path.write_bytes(content)
    try:
      nodes = onnx_file.read(path, '')
      assert all(isinstance(x, np.ndarray) for n in nodes for x in n.arrays)
    except errors.UserError as error:
      assert str(path) in str(error) and str(error).isprintable()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
  path = altered(tmp_path, lambda tensor: None)
  monkeypatch.setitem(sys.modules, 'onnx', None)
  refuse(path, r"pip install 'babam_jax\[onnx\]'")
