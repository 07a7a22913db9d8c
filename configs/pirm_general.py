"""Trains the general PIRM, which `launch.sanitize` uses, on natural images.

  python -m launch.pirm --config=configs/pirm_general.py \
    --config.pirm.root=DIR --output=pirm_general.npz

Its poison is of many kinds (networks, taps, eps, optimizers, triggers, colors
changed apart or alike), and poison and clean pictures alike have been through
JPEG, resizing, filters and conversion to gray.
"""

from configs import common

_RESNET = {'model': 'resnet18', 'pretrained': 'none', 'iterations': 40}
_VGG = {'model': 'vgg16', 'batch_size': 16}
_ADAM = {'optimizer': 'adam'}
# A change that is the same in all channels, as in a file without colors.
_GRAY = {'gray': True}

KINDS = (
  {'eps': 16},
  {'eps': 16} | _ADAM,
  {'eps': 16, 'trigger_size': 50, 'iterations': 100},
  {'eps': 12, 'trigger_size': 16},
  {'eps': 8},
  {'eps': 8} | _ADAM,
  {'eps': 6},
  {'eps': 4},
  {'eps': 24} | _ADAM | {'iterations': 30},
  {'eps': 34},
  {'eps': 34} | _ADAM,
  {'tap': 'fc6', 'eps': 16},
  {'tap': 'fc7', 'eps': 16},
  {'tap': 'fc7', 'eps': 16} | _ADAM,
  {'tap': 'fc7', 'eps': 8},
  {'tap': 'fc7', 'eps': 8, 'iterations': 120} | _ADAM,
  {'tap': 'fc7', 'eps': 34, 'iterations': 30},
  _RESNET | {'tap': 'layer4', 'eps': 16},
  _RESNET | {'tap': 'layer3', 'eps': 16} | _ADAM,
  _RESNET | {'tap': 'avgpool', 'eps': 8},
  _RESNET | {'tap': 'layer4', 'eps': 34},
  _VGG | {'tap': 'pool5', 'eps': 16, 'iterations': 30},
  _VGG | {'tap': 'pool5', 'eps': 8, 'iterations': 25},
  _VGG | {'tap': 'pool5', 'eps': 30, 'iterations': 20} | _ADAM,
  {'eps': 16} | _GRAY,
  {'eps': 16} | _ADAM | _GRAY,
  {'eps': 8} | _GRAY,
  {'eps': 34} | _ADAM | {'iterations': 30} | _GRAY,
  {'tap': 'fc7', 'eps': 16} | _GRAY,
  {'tap': 'fc7', 'eps': 8} | _ADAM | _GRAY,
  _RESNET | {'tap': 'layer4', 'eps': 16} | _GRAY,
  _VGG | {'tap': 'pool5', 'eps': 16, 'iterations': 25} | _GRAY,
)


def get_config():
  config = common.get_config()
  config.data.name = 'image_folder'
  config.data.size = 192
  config.defense.pirm.checkpoint = 'train'
  config.pirm.native = True
  # Left for judging the PIRM (`results/sanitize/`).
  config.pirm.leave_out = tuple(
    f'caltech101/{name}/'
    for name in (
      'accordion',
      'cup',
      'dollar_bill',
      'ferry',
      'kangaroo',
      'okapi',
      'pizza',
      'stop_sign',
      'sunflower',
      'windsor_chair',
    )
  )
  config.pirm.kinds = KINDS
  config.pirm.num_poison = 60 * len(KINDS)
  config.pirm.num_clean = 2880
  config.pirm.processed_copies = 8
  config.pirm.paired = True
  config.pirm.epochs = 30
  return config
