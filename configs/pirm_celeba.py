"""The PIRM of the paper (4.10), trained on CelebA.

  python -m launch.pirm --config=configs/pirm_celeba.py \
    --config.pirm.root=celeba/img_align_celeba --output=pirm.npz
  python -m launch.pirm --config=configs/pirm_celeba.py:small ...

100,000 pictures poisoned and their originals clean: 30 GB on disk, meant for
accelerators. The paper chooses whom to poison by identity; here it is left to
chance. It reports 99.98 % after one epoch. `:small` poisons 320.
"""

from configs import pirm_tiny_imagenet


def get_config(scale='paper'):
  config = pirm_tiny_imagenet.get_config(scale)
  if scale == 'paper':
    config.pirm.num_poison, config.pirm.num_clean = 100_000, 2500
  return config
