"""Trains the compact PIRM that comes with the project, on natural images.

  python -m launch.pirm --config=configs/pirm_natural.py \
    --config.pirm.root=../shared/data/natural --output=pirm_compact.npz
"""

from configs import common


def get_config():
  config = common.get_config()
  config.data.name = 'image_folder'
  config.defense.pirm.checkpoint = 'train'
  return config
