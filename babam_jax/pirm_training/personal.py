"""A PIRM of one's own: what an attacker does not have, he cannot evade.

The shipped weights are public. A private PIRM begins with them, but for its
first filters, and learns from other pictures, other poison and other crops, all
drawn by a secret key.
"""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from babam_jax import seeds
from babam_jax.config import schema

_KINDS = 16
_POISON_OF_A_KIND = 36
_HOSTS = 900
_CLEAN = 1500
_EPS = (4, 34)  # gray levels
_TRIGGER = (16, 40)  # pixels a side
_ITERATIONS = (25, 60)
_GRAY_SHARE = 0.3
_RANDOM = {'pretrained': 'none', 'stop_distance': 0.0}
# The networks that are cheap to collide in.
_SURROGATES: tuple[dict[str, Any], ...] = (
  {'model': 'alexnet', 'tap': 'pool5'},
  {'model': 'alexnet', 'tap': 'pool5'},
  {'model': 'alexnet', 'tap': 'fc7'},
  {'model': 'alexnet', 'tap': 'pool5'} | _RANDOM,
  {'model': 'resnet18', 'tap': 'layer2'} | _RANDOM,
  {'model': 'resnet18', 'tap': 'layer3'} | _RANDOM,
  {'model': 'resnet18', 'tap': 'layer4'} | _RANDOM,
  {'model': 'mobile_face_net', 'tap': 'stage2'} | _RANDOM,
  {'model': 'mobile_face_net', 'tap': 'embedding'} | _RANDOM,
)
_OPTIMIZERS = ('sign_momentum', 'adam', 'sign', 'l2')


def config(root: str, start_from: str, key: int) -> ConfigDict:
  """The experiment that trains a private PIRM, some minutes long.

  Args:
    root: a folder of photographs.
    start_from: the PIRM to begin with, by name or file.
    key: the secret that it follows from; whoever has it and the pictures can
      make the same PIRM.
  """
  made = schema.default_config()
  made.seed = key
  made.data.name, made.data.size = 'image_folder', 128
  made.defense.pirm.checkpoint = 'train'
  pirm = made.pirm
  pirm.root, pirm.start_from = root, start_from
  pirm.variant, pirm.native = 'residual', True
  pirm.textured_fraction = 0.45
  pirm.kinds = _kinds(key)
  pirm.num_poison = _KINDS * _POISON_OF_A_KIND
  pirm.num_hosts = _HOSTS
  pirm.num_clean = _CLEAN
  pirm.holdout_fraction = 0.35
  pirm.processed_copies = 6
  pirm.paired = True
  pirm.learning_rate = 1e-3
  pirm.gray_fraction = 0.33
  pirm.epochs = 10
  return made


def _kinds(key: int) -> tuple[dict[str, Any], ...]:
  """Kinds of poison that the key draws."""
  rng = seeds.numpy_rng(key, 'kinds of poison')

  def between(low: float, high: float) -> int:
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))

  return tuple(
    _SURROGATES[rng.integers(len(_SURROGATES))]
    | {
      'eps': float(between(*_EPS)),
      'optimizer': _OPTIMIZERS[rng.integers(len(_OPTIMIZERS))],
      'trigger_size': between(*_TRIGGER),
      'iterations': between(*_ITERATIONS),
      'gray': bool(rng.random() < _GRAY_SHARE),
    }
    for _ in range(_KINDS)
  )
