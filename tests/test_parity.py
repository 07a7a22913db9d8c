"""Each network against torchvision itself: needs PyTorch. Run: `-m slow`."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import synthetic
from test_networks import (
  as_double,
  compare_statistics,
  relative,
  without_dropout,
)

from babam_jax.models import layers, networks
from babam_jax.models.pretrained import conversion, weights

pytestmark = pytest.mark.slow
CASES = [
  (model, shape)
  for model, size in (
    ('alexnet', 224),
    ('vgg11_bn', 224),
    ('vgg16', 224),
    ('resnet18', 224),
    ('inception_v3', 299),
  )
  for shape in ((size, size), (size + 37, size - 22))
]


@pytest.fixture(scope='module')
def peer():
  pytest.importorskip('torchvision')
  import torch_peer

  return torch_peer


def random_model(peer, name):
  """A torchvision network with its own random weights, in motion."""
  import torch

  torch.manual_seed(0)
  model = peer.build(name, num_classes=5)
  for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_mean.normal_(0, 0.1)
      module.running_var.uniform_(0.5, 1.5)
      module.weight.data.uniform_(0.5, 1.5)
      module.bias.data.normal_(0, 0.1)
  return model


def variables_of(model, name, tmp_path, is_zip=True):
  import torch

  path = tmp_path / f'{name}.pth'
  torch.save(model.state_dict(), path, _use_new_zipfile_serialization=is_zip)
  try:
    return weights.read_file(path, name, 'full').variables
  finally:
    path.unlink()


@pytest.mark.parametrize('name,shape', CASES)
def test_evaluation(peer, name, shape, tmp_path):
  model = random_model(peer, name)
  pixels = synthetic.pictures(2, *shape)
  network = networks.Classifier(name, 5)
  is_zip = shape[0] == shape[1]  # both formats have their turn
  variables = variables_of(model, name, tmp_path, is_zip)
  expected = peer.evaluate(name, model, pixels)
  found = jax.jit(network.apply)(variables, pixels)
  errors = {
    tap: relative(found[tap], expected[tap])
    for tap in ('logits', *networks.ARCHITECTURES[name].taps)
  }
  print(name, shape, {tap: f'{error:.1e}' for tap, error in errors.items()})
  assert max(errors.values()) <= 1e-4


@pytest.mark.parametrize('name,shape', CASES)
def test_input_gradient(peer, name, shape, tmp_path):
  """In double precision: in single, rounding tips a few of the millions of
  ReLUs and maxima, in PyTorch as in JAX, and moves gradients by percents (what
  single precision does to torchvision's own is printed)."""
  model = random_model(peer, name)
  pixels = synthetic.pictures(1, *shape).astype(np.float64)
  network = networks.Classifier(name, 5)
  last = networks.ARCHITECTURES[name].taps[-1]
  with jax.enable_x64(True):
    variables = as_double(variables_of(model, name, tmp_path))
    gradient = jax.jit(
      jax.grad(lambda x, v: jnp.mean(network.apply(v, x)[last] ** 2))
    )(pixels, variables)
  single = peer.evaluate(name, model, pixels.astype(np.float32))['gradient']
  expected = peer.evaluate(name, model.double(), pixels)['gradient']
  error, own = (
    relative(np.asarray(gradient), expected),
    relative(single, expected),
  )
  print(name, shape, f"input gradient {error:.1e}, torchvision's {own:.1e}")
  assert error <= 1e-3


def training_loss(network, variables, pixels, labels):
  """`params -> loss, (outputs, batch_stats)` as `train.fit` has it."""
  training = layers.Training(
    jax.random.split(jax.random.key(0), len(labels)),
    jnp.ones(len(labels), pixels.dtype),
    None,
  )

  def loss_fn(params):
    found, updated = network.apply(
      variables | {'params': params}, pixels, training, mutable=['batch_stats']
    )
    logs = [
      jax.nn.log_softmax(found[key])[jnp.arange(len(labels)), labels].mean()
      for key in ('logits', 'aux_logits')
      if key in found
    ]
    loss = -sum(w * log for w, log in zip((1, 0.4), logs, strict=False))
    return loss, (found, updated.get('batch_stats', {}))

  return loss_fn


def training_shape(name, shape):
  if name == 'inception_v3':  # the auxiliary head's least size
    return (max(shape[0], 299), max(shape[1], 299))
  return shape


@pytest.mark.parametrize('name,shape', CASES)
def test_training(peer, name, shape, tmp_path, monkeypatch):
  """Against torchvision in double precision: in single, its logits of
  InceptionV3 are themselves more than 1e-4 away from that (printed)."""
  without_dropout(monkeypatch)
  model = random_model(peer, name)
  pixels = synthetic.pictures(4, *training_shape(name, shape))
  labels = np.array([1, 3, 0, 1])
  network = networks.Classifier(name, 5)
  variables = variables_of(model, name, tmp_path)
  single = peer.train_step(name, copy.deepcopy(model), pixels, labels)
  double = pixels.astype(np.float64)
  expected = peer.train_step(name, model.double(), double, labels)
  loss, (found, stats) = jax.jit(
    training_loss(network, variables, pixels, labels)
  )(variables['params'])
  error = relative(found['logits'], expected['logits'])
  own = relative(single['logits'], expected['logits'])
  print(name, shape, f"training logits {error:.1e}, torchvision's {own:.1e}")
  assert error <= 1e-4
  assert abs(loss - expected['loss']) <= 1e-4 * abs(expected['loss'])
  compare_statistics(name, stats, expected, None)


@pytest.mark.parametrize('name,shape', CASES[::2])
def test_training_gradients(peer, name, shape, tmp_path, monkeypatch):
  without_dropout(monkeypatch)
  model = random_model(peer, name)
  pixels = synthetic.pictures(2, *shape).astype(np.float64)
  labels = np.array([1, 3])
  network = networks.Classifier(name, 5)
  with jax.enable_x64(True):
    variables = as_double(variables_of(model, name, tmp_path))
    gradients = jax.jit(
      jax.grad(training_loss(network, variables, pixels, labels), has_aux=True)
    )(variables['params'])[0]
  step = peer.train_step(name, model.double(), pixels, labels)
  renamed = {key.removeprefix('gradient of '): x for key, x in step.items()}
  del renamed['logits'], renamed['loss']
  expected = conversion.from_torch(name, renamed, 'full', 'gradients')
  scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  errors = jax.tree.map(
    lambda a, b: np.abs(np.asarray(a) - b).max() / scale,
    gradients,
    expected['params'],
  )
  worst = max(jax.tree.leaves(errors))
  print(name, shape, f'parameter gradients {worst:.1e}')
  assert worst <= 1e-3
