"""Weights and pictures by formula, the same with and without PyTorch.

Built on PCG64's raw output, which NumPy promises never to change.
"""

import zlib

import numpy as np


def uniform(name, shape):
  """Numbers in [-1, 1) that depend on `name` alone."""
  count = int(np.prod(shape, dtype=np.int64))
  raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(count // 2 + 1)
  whole = raw.view(np.uint32)[:count].astype(np.float32)
  return (whole / np.float32(2**31) - 1).reshape(shape)


def tensor(name, shape):
  """A tensor of a state_dict, scaled so that activations keep their size."""
  kind = name.rpartition('.')[2]
  values = uniform(name, shape)
  if kind == 'running_var' or (kind == 'weight' and len(shape) == 1):
    return 1 + values / 2
  if kind in ('bias', 'running_mean'):
    return values / 10
  fan_in = np.prod(shape[1:])
  return values * np.float32(np.sqrt(6 / fan_in))


def pictures(count, height, width):
  """Pictures in [0, 1], [n, h, w, 3]."""
  return (uniform('pictures', (count, height, width, 3)) + 1) / 2


# Heights and widths of the pictures that each network is compared on.
SIZES = {
  'alexnet': (95, 81),
  'vgg11_bn': (71, 64),
  'vgg16': (71, 64),
  'resnet18': (65, 50),
  'inception_v3': (121, 107),
}
# XLA's convolutions are slow in double precision, so gradients have less to do.
GRADIENT_SIZES = SIZES | {
  'vgg11_bn': (64, 32),
  'vgg16': (39, 32),
  'inception_v3': (81, 75),
}

# What the small files of weights in this folder hold.
SMALL = {
  'weight': (6, 4),
  'bias': (4,),
  'deep.kernel': (2, 3, 4, 5),
  'half': (3,),
}
