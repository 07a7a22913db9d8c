"""Trains the general PIRM, which `launch.sanitize` uses, on natural images.

  python -m launch.pirm --config=configs/pirm_general.py:DIR \
    --output=pirm_general.npz

Its poison is of many kinds (networks, taps, eps, optimizers, triggers, colors
changed apart or alike), made of photographs and of what looks like poison and
is none: noise, grain, printing screens, ridges. Poison and clean pictures alike
have been through JPEG, WebP, resizing, filters and conversion to gray.
"""

import pathlib

from configs import common

# The change is the same in all channels, as in a file without colors.
_GRAY = {'gray': True}
_ADAM = {'optimizer': 'adam'}
_SIGN = {'optimizer': 'sign'}
_L2 = {'optimizer': 'l2'}
_SMOOTH = {'adaptive.smoothness': 0.7}
_FC7 = {'tap': 'fc7'}
_RANDOM = {'pretrained': 'none', 'iterations': 40}
_ALEXNET = {'model': 'alexnet'} | _RANDOM
_RESNET = {'model': 'resnet18'} | _RANDOM
_MOBILE = {'model': 'mobile_face_net'} | _RANDOM
_VGG = {'model': 'vgg16', 'batch_size': 16, 'iterations': 12}

KINDS = (
  {'eps': 16},
  {'eps': 16} | _ADAM,
  {'eps': 16} | _L2,
  {'eps': 16} | _SMOOTH,
  {'eps': 12, 'trigger_size': 16} | _SIGN,
  {'eps': 8},
  {'eps': 8} | _ADAM,
  {'eps': 8} | _L2,
  {'eps': 6} | _SIGN,
  {'eps': 4},
  {'eps': 4} | _ADAM,
  {'eps': 24} | _ADAM | {'iterations': 30},
  {'eps': 34, 'iterations': 30},
  {'eps': 16} | _FC7,
  {'eps': 16} | _FC7 | _ADAM,
  {'eps': 8} | _FC7,
  {'eps': 8, 'iterations': 120} | _FC7 | _ADAM,
  {'eps': 5} | _FC7,
  {'eps': 34, 'iterations': 30} | _FC7,
  {'eps': 10} | _ALEXNET,
  {'eps': 5} | _ALEXNET | _ADAM,
  {'eps': 16, 'tap': 'layer4'} | _RESNET,
  {'eps': 12, 'tap': 'layer3'} | _RESNET | _ADAM,
  {'eps': 8, 'tap': 'avgpool'} | _RESNET,
  {'eps': 5, 'tap': 'layer2'} | _RESNET | _SIGN,
  {'eps': 16, 'tap': 'embedding'} | _MOBILE,
  {'eps': 8, 'tap': 'embedding'} | _MOBILE | _ADAM,
  {'eps': 5, 'tap': 'embedding'} | _MOBILE,
  {'eps': 4, 'tap': 'embedding'} | _MOBILE | _L2,
  {'eps': 16, 'tap': 'pool5'} | _VGG,
  {'eps': 8, 'tap': 'pool5'} | _VGG | _SIGN,
  {'eps': 16} | _GRAY,
  {'eps': 16} | _ADAM | _GRAY,
  {'eps': 12} | _L2 | _GRAY,
  {'eps': 8} | _GRAY,
  {'eps': 8} | _ADAM | _GRAY,
  {'eps': 6} | _SIGN | _GRAY,
  {'eps': 34, 'iterations': 30} | _ADAM | _GRAY,
  {'eps': 16} | _FC7 | _GRAY,
  {'eps': 8} | _FC7 | _ADAM | _GRAY,
  {'eps': 10} | _ALEXNET | _GRAY,
  {'eps': 16, 'tap': 'layer4'} | _RESNET | _GRAY,
  {'eps': 8, 'tap': 'layer3'} | _RESNET | _GRAY,
  {'eps': 12, 'tap': 'embedding'} | _MOBILE | _GRAY,
  {'eps': 6, 'tap': 'embedding'} | _MOBILE | _GRAY,
  {'eps': 16, 'tap': 'pool5'} | _VGG | _GRAY,
)


def get_config(data=''):
  """Those of `DIR/natural`, `DIR/natural_more` and `DIR/camera_noise`, or of
  `config.pirm.root` and `config.pirm.more_roots`."""
  config = common.get_config()
  config.data.name = 'image_folder'
  config.data.size = 128
  config.defense.pirm.checkpoint = 'train'
  pirm = config.pirm
  if data:
    names = ('natural', 'natural_more', 'camera_noise')
    root, *others = (str(pathlib.Path(data, name)) for name in names)
    pirm.root, pirm.more_roots = root, tuple(others)
  pirm.variant = 'residual'
  pirm.native = True
  pirm.textured_fraction = 0.45
  pirm.kinds = KINDS
  # Random networks have small features: without a lower bound of the distance
  # some poison would hardly change at all.
  pirm.poison.stop_distance = 0.0
  pirm.num_poison = 72 * len(KINDS)
  pirm.num_clean = 4800
  pirm.holdout_fraction = 0.25
  pirm.processed_copies = 8
  pirm.paired = True
  pirm.epochs = 20
  return config
