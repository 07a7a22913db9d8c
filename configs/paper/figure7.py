"""Figure 7: how the paper's PIRM trains over the steps of its first epoch.

  python -m launch.pirm --config=configs/paper/figure7.py \
    --config.pirm.root=DIR --output=pirm_vgg16.npz
  python -m launch.pirm --config=configs/paper/figure7.py:small ...

The figure is `figures/training.png` of the working folder. DIR holds natural
images: Tiny ImageNet's training half, or CelebA (`configs/pirm_celeba.py`).
`:small` poisons 320 pictures, for two cores.
"""

from configs.pirm_tiny_imagenet import get_config  # noqa: F401
