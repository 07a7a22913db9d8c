"""Trains the general PIRM, which `launch.sanitize` uses, on natural images.

  python -m launch.pirm --config=configs/pirm_general.py \
    --config.pirm.root=DIR --output=pirm_general.npz

Its poison is of many kinds (networks, taps, eps, optimizers, triggers, colors
changed apart or alike), and poison and clean pictures alike have been through
JPEG, resizing, filters and loss of colors.
"""

from configs import common

_RESNET = 'model=resnet18 pretrained=none iterations=40'
_VGG = 'model=vgg16 batch_size=16'

KINDS = (
  'eps=16',
  'eps=16 optimizer=adam',
  'eps=16 trigger_size=50 iterations=100',
  'eps=12 trigger_size=16',
  'eps=8',
  'eps=8 optimizer=adam',
  'eps=6',
  'eps=4',
  'eps=24 optimizer=adam iterations=30',
  'eps=34',
  'eps=34 optimizer=adam',
  'tap=fc6 eps=16',
  'tap=fc7 eps=16',
  'tap=fc7 eps=16 optimizer=adam',
  'tap=fc7 eps=8',
  'tap=fc7 eps=8 iterations=120 optimizer=adam',
  'tap=fc7 eps=34 iterations=30',
  f'{_RESNET} tap=layer4 eps=16',
  f'{_RESNET} tap=layer3 eps=16 optimizer=adam',
  f'{_RESNET} tap=avgpool eps=8',
  f'{_RESNET} tap=layer4 eps=34',
  f'{_VGG} tap=pool5 eps=16 iterations=30',
  f'{_VGG} tap=pool5 eps=8 iterations=25',
  f'{_VGG} tap=pool5 eps=30 iterations=20 optimizer=adam',
  # A change that is the same in all channels, as in a file without colors.
  'eps=16 gray=True',
  'eps=16 optimizer=adam gray=True',
  'eps=8 gray=True',
  'eps=34 optimizer=adam iterations=30 gray=True',
  'tap=fc7 eps=16 gray=True',
  'tap=fc7 eps=8 optimizer=adam gray=True',
  f'{_RESNET} tap=layer4 eps=16 gray=True',
  f'{_VGG} tap=pool5 eps=16 iterations=25 gray=True',
)


def get_config():
  config = common.get_config()
  config.data.name = 'image_folder'
  config.data.size = 192
  config.pirm.checkpoint = 'train'
  config.pirm.native = True
  # Kept for judging it (`results/sanitize/`).
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
