"""What torchvision computes, for the parity tests: needs PyTorch.

As a script it writes the golden fixtures that the default suite reads:

  python tests/torch_peer.py
"""

import pathlib
import pickle
import sys

import numpy as np
import safetensors.numpy
import torch
import torchvision
from torchvision.models import feature_extraction

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from golden import synthetic

GOLDEN = pathlib.Path(__file__).parent / 'golden'
NAMES = ('alexnet', 'vgg11_bn', 'vgg16', 'resnet18', 'inception_v3')
_VGG_TAPS = {'pool5': 'flatten', 'fc6': 'classifier.1', 'fc7': 'classifier.4'}
# Our taps, and the nodes of torchvision's graph.
TAPS = {
  'alexnet': {'pool5': 'flatten', 'fc6': 'classifier.2', 'fc7': 'classifier.5'},
  'vgg11_bn': _VGG_TAPS,
  'vgg16': _VGG_TAPS,
  'resnet18': {
    **{f'layer{i}': f'layer{i}' for i in range(1, 5)},
    'avgpool': 'flatten',
  },
  'inception_v3': {
    **{name: name for name in ('Mixed_5d', 'Mixed_6e', 'Mixed_7c')},
    'avgpool': 'flatten',
  },
}
_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def build(name, num_classes=1000):
  """A torchvision network with random weights; dropout is switched off."""
  options = {'init_weights': False} if name == 'inception_v3' else {}
  make = getattr(torchvision.models, name)
  model = make(weights=None, num_classes=num_classes, **options)
  for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
      module.p = 0.0
  return model


def set_synthetic(model):
  """Gives a network the weights of `synthetic`."""
  model.load_state_dict(
    {
      name: torch.from_numpy(synthetic.tensor(name, tuple(value.shape)))
      if value.is_floating_point()
      else value
      for name, value in model.state_dict().items()
    }
  )
  return model


def as_input(name, images):
  """[n, h, w, 3] in [0, 1] to what the network takes."""
  images = images.permute(0, 3, 1, 2)
  if name == 'inception_v3':
    return images * 2 - 1  # what transform_input makes of normalized pictures
  return (images - _MEAN.to(images.dtype)) / _STD.to(images.dtype)


def evaluate(name, model, pixels):
  """Logits, taps, and the input gradient of the mean squared last tap."""
  model.eval()
  images = torch.from_numpy(pixels).requires_grad_(True)
  logits = model(as_input(name, images))
  nodes = {node: tap for tap, node in TAPS[name].items()}
  extractor = feature_extraction.create_feature_extractor(model.eval(), nodes)
  taps = extractor(as_input(name, images))
  last = list(TAPS[name])[-1]
  taps[last].square().mean().backward()
  found = {'logits': logits, 'gradient': images.grad}
  for tap, value in taps.items():
    if value.ndim == 4:
      value = value.permute(0, 2, 3, 1)
    elif tap == 'pool5':
      channels, side = (256, 6) if name == 'alexnet' else (512, 7)
      value = value.view(-1, channels, side, side).permute(0, 2, 3, 1)
    found[tap] = value.reshape(len(value), -1)
  return {key: value.detach().numpy() for key, value in found.items()}


def train_step(name, model, pixels, labels):
  """Logits and loss in training mode, the BatchNorm statistics after it, and
  the gradient of the last layer's and the first layer's weights."""
  model.train()
  output = model(as_input(name, torch.from_numpy(pixels)))
  heads = list(output) if isinstance(output, tuple) else [output]
  entropy = torch.nn.functional.cross_entropy
  labels = torch.from_numpy(labels).long()
  losses = [entropy(head, labels) for head in heads]
  loss = losses[0] + 0.4 * losses[1] if len(losses) == 2 else losses[0]
  loss.backward()
  found = {'logits': heads[0].detach().numpy(), 'loss': loss.detach().numpy()}
  for key, value in model.state_dict().items():
    if 'running' in key:
      found[key] = value.numpy().copy()
  for key, value in model.named_parameters():
    found[f'gradient of {key}'] = value.grad.numpy()
  return found


def thinned(tap):
  """64 or so of the values of each picture."""
  return tap[:, :: max(1, tap.shape[1] // 64)]


def write_golden(name):
  """One small file a network: enough to catch a wrong layout anywhere.

  Computed in double precision, in which rounding tips no ReLU and no maximum;
  stored in single, which costs less than 1e-7.
  """
  model = set_synthetic(build(name, num_classes=5)).double()
  pixels = synthetic.pictures(2, *synthetic.SIZES[name]).astype(np.float64)
  found = evaluate(name, model, pixels)
  arrays = {tap: thinned(found[tap]) for tap in TAPS[name]}
  arrays['logits'] = found['logits']
  small = synthetic.pictures(1, *synthetic.GRADIENT_SIZES[name])
  found = evaluate(name, model, small.astype(np.float64))
  arrays['gradient'] = found['gradient'][:, ::5, ::5]
  arrays['features'] = thinned(found[list(TAPS[name])[-1]])
  if name != 'inception_v3':  # its auxiliary head needs 299 pixels
    step = train_step(name, model, pixels, np.array([1, 3]))
    arrays['training_logits'] = step['logits']
    arrays['training_loss'] = step['loss']
    for key, value in step.items():
      if 'running' in key:
        arrays[key] = value[:8]
  single = {key: np.float32(value) for key, value in arrays.items()}
  np.savez_compressed(GOLDEN / f'{name}.npz', **single)


def write_small_files():
  """One small file of weights in each format, and richer ones of PyTorch's."""
  arrays = {
    key: synthetic.uniform(key, s) for key, s in synthetic.SMALL.items()
  }
  arrays['half'] = arrays['half'].astype(np.float16)
  tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
  base = torch.from_numpy(synthetic.uniform('base', (6, 4)))
  rich = {
    'base': base,
    'transposed': base.T,
    'rows': base[2:5],
    'parameter': torch.nn.Parameter(base.clone()),
    'count': torch.tensor(7),
    'empty': torch.zeros(0, 3),
    'bfloat16': base.bfloat16(),
  }
  save = torch.save
  for name, content in (('small', tensors), ('rich', rich)):
    save(content, GOLDEN / f'{name}.pth')
    legacy = GOLDEN / f'{name}_legacy.pth'
    save(content, legacy, _use_new_zipfile_serialization=False)
  training = {  # the optimizer has storages of its own
    'epoch': 3,
    'state_dict': {'base': base},
    'optimizer': {'state': {0: {'momentum_buffer': base + 1}}},
  }
  save(training, GOLDEN / 'wrapped.pth')
  legacy = GOLDEN / 'wrapped_legacy.pth'
  save(training, legacy, _use_new_zipfile_serialization=False)
  safetensors.numpy.save_file(arrays, GOLDEN / 'small.safetensors')
  with open(GOLDEN / 'small.ckpt', 'wb') as file:
    pickle.dump(arrays, file, protocol=3)


if __name__ == '__main__':
  write_small_files()
  for network in NAMES:
    write_golden(network)
