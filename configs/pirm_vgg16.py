"""Trains the paper's PIRM (4.10): VGG16, Adam 1e-4, batches of 32, one epoch.

  python -m launch.pirm --config=configs/pirm_vgg16.py \
    --config.pirm.root=../shared/data/natural --output=pirm_vgg16.npz

Meant for an accelerator; the paper has 100,000 pictures where the default here
has 1,600.
"""

from configs import pirm_natural


def get_config():
  config = pirm_natural.get_config()
  config.pirm.variant = 'vgg16'
  config.pirm.optimizer = 'adam'
  config.pirm.learning_rate = 1e-4
  config.pirm.batch_size = 32
  config.pirm.epochs = 1
  return config
