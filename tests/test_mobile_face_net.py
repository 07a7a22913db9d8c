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
LAYERS = {x.name: x for x in networks.ARCHITECTURES[MODEL].file_layers}
NAMES = list(LAYERS)
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
  for layer in LAYERS:
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


def attributes_of(layer):
  """Those of a convolution."""
  _, stride, padding, groups = layer.connection
  return {
    'strides': [stride] * 2, 'pads': [padding] * 4, 'group': groups
  }  # fmt: skip


def graph_of(nodes):
  """A model with these nodes, connected as ours are; others follow the last."""
  graph, make = onnx.GraphProto(), onnx.helper.make_node
  graph.input.append(onnx.helper.make_empty_tensor_value_info('pictures'))
  last = 'pictures'
  for name, kind, arrays in nodes:
    layer = LAYERS.get(name)
    takes = [last]
    if layer:
      takes = [NAMES[number] for number in layer.connection.takes]
    taken, *others = takes or ['pictures']
    for other in others:
      added = f'{taken} + {other}'
      if added not in {x.output[0] for x in graph.node}:
        graph.node.append(make('Add', [taken, other], [added]))
      taken = added
    weights = [f'{name} {i}' for i in range(len(arrays))]
    options = attributes_of(layer) if layer and kind == 'Conv' else {}
    graph.node.append(
      make(kind, [taken, *weights], [name], name=name, **options)
    )
    for weight, array in zip(weights, arrays, strict=True):
      graph.initializer.append(
        onnx.numpy_helper.from_array(np.asarray(array), weight)
      )
    last = name
  graph.output.append(onnx.helper.make_empty_tensor_value_info(last))
  return onnx.ModelProto(graph=graph)


def write(path, nodes, change=lambda graph: None):
  model = graph_of(nodes)
  change(model.graph)
  path.write_bytes(model.SerializeToString())
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


def test_the_latest_conversion_counts(variables, tmp_path, cache):
  """Such files have no head: both parts are the same."""
  for number, part in enumerate(('trunk', 'full', 'trunk')):
    nodes = nodes_of(variables)
    nodes[0][2][1] = np.full(64, number, np.float32)
    path = write(tmp_path / f'{number}.onnx', nodes)
    found = pretrained_weights.read_file(path, MODEL, part)
    pretrained_weights.store(found)
    for asked in ('trunk', 'full'):
      assert pretrained_weights.fingerprint(MODEL, asked) == found.sha256
    listed = list(pretrained_weights.cached())
    assert len(listed) == 1 and listed[0][:2] == (MODEL, 'full')


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


def no_residual(graph):
  for node in graph.node:
    if node.op_type == 'Add':
      node.op_type, node.input[:] = 'Identity', node.input[1:]


def attribute(node, name):
  (found,) = [x for x in node.attribute if x.name == name]
  return found


def other_stride(graph):
  attribute(graph.node[0], 'strides').ints[:] = [1, 1]


def other_group(graph):
  attribute(graph.node[2], 'group').i = 1


@pytest.mark.parametrize(
  'change,told',
  [
    (no_residual, 'connected otherwise: stage1/block2/expand'),
    (other_stride, '1 connected otherwise: conv1'),
    (other_group, '1 connected otherwise: conv2'),
  ],
)
def test_another_graph_of_the_same_weights_is_refused(
  variables, tmp_path, change, told
):
  refuse(write(tmp_path / 'a.onnx', nodes_of(variables), change), told)


def uneven(graph):
  attribute(graph.node[0], 'pads').ints[0] = 0


def dilated(graph):
  graph.node[0].attribute.append(onnx.helper.make_attribute('dilations', [2]))


def padded(graph):
  same = onnx.helper.make_attribute('auto_pad', 'SAME_UPPER')
  graph.node[0].attribute.append(same)


def twice(graph):
  graph.initializer.append(graph.initializer[0])


def one_output_of_two(graph):
  graph.node[2].output[0] = graph.node[1].output[0]


def cut(graph):
  graph.output[0].name = graph.node[5].output[0]


def negative(graph):
  graph.initializer[0].dims[0] = -1


def crowded(graph):
  graph.initializer.extend([onnx.TensorProto()] * 5000)


def gluttonous(graph):
  graph.node[0].input.extend([graph.initializer[0].name] * 20)


@pytest.mark.parametrize(
  'change,told',
  [
    (uneven, 'its pads are'),
    (dilated, 'is dilated'),
    (padded, 'pads by itself'),
    (twice, "it has 'conv1 0' twice"),
    (one_output_of_two, "two of its nodes give 'conv1_prelu'"),
    (cut, 'its output is not'),
    (negative, "'conv1 0' has a negative length"),
    (crowded, 'more parts'),
    (gluttonous, 'more parts'),
  ],
)
def test_odd_graphs_are_refused(variables, tmp_path, change, told):
  refuse(write(tmp_path / 'a.onnx', nodes_of(variables), change), told)


def dense_end(graph):
  """The last layer as a dense one, behind a map that was made flat."""
  last, kernel = graph.node[-1], graph.initializer[-2]
  del kernel.dims[2:]
  flat = onnx.helper.make_node('Flatten', last.input[:1], ['flat'])
  last.op_type, last.input[0] = 'Gemm', 'flat'
  del last.attribute[:]
  last.attribute.append(onnx.helper.make_attribute('transB', 1))
  graph.node.insert(len(graph.node) - 1, flat)


def turned_end(graph):
  """The same, its weights the other way round."""
  dense_end(graph)
  del graph.node[-1].attribute[:]
  kernel = onnx.numpy_helper.to_array(graph.initializer[-2])
  turned = onnx.numpy_helper.from_array(kernel.T.copy(), 'embedding 0')
  graph.initializer[-2].CopyFrom(turned)


def constants(graph):
  """Weights in nodes of their own."""
  for tensor in list(graph.initializer)[:6]:
    node = onnx.helper.make_node('Constant', [], [tensor.name], value=tensor)
    graph.node.insert(0, node)
  del graph.initializer[:6]


@pytest.mark.parametrize('change', [dense_end, turned_end, constants])
def test_other_ways_to_say_the_same(variables, tmp_path, change):
  path = write(tmp_path / 'a.onnx', nodes_of(variables), change)
  found = pretrained_weights.read_file(path, MODEL, 'full')
  jax.tree.map(
    np.testing.assert_array_equal,
    found.variables['params'],
    {'trunk': variables['params']['trunk']},
  )


def test_embeddings_are_those_of_a_graph_with_random_weights(
  variables, tmp_path, rng
):
  images = rng.random((2, 112, 112, 3)).astype(np.float32)
  model = graph_of(nodes_of(variables))
  model.opset_import.append(onnx.helper.make_opsetid('', 13))
  graph = reference.ReferenceEvaluator(model)
  inputs = (2 * images - 1).transpose(0, 3, 1, 2)
  expected = graph.run(None, {'pictures': inputs})[0].reshape(2, -1)
  found = jax.jit(embed)(variables, images)
  assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


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
