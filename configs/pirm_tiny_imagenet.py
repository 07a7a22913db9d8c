"""The PIRM of the paper (4.10), trained on Tiny ImageNet.

  python -m launch.pirm --config=configs/pirm_tiny_imagenet.py \
    --config.pirm.root=tiny-imagenet-200/train --output=pirm.npz
  python -m launch.pirm --config=configs/pirm_tiny_imagenet.py:small ...

48,000 pictures poisoned, their originals and 4,000 others clean, 48,000
sources: 15 GB on disk, meant for accelerators. (The paper poisons 50,000.)
`:small` poisons 320, for two cores: some ten minutes.
"""

from configs import paper, pirm_vgg16


def get_config(scale='paper'):
  config = pirm_vgg16.get_config()
  config.pirm.trainable_convs = 3
  config.pirm.gray_fraction = 0.0
  paper.check_variant(scale, ('paper', 'small'))
  config.pirm.num_poison, config.pirm.num_clean = (
    (48_000, 4000) if scale == 'paper' else (320, 320)
  )
  return config
