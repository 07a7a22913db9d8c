"""Finger veins: 240 fingers, 6 gray pictures each (FV-USM).

python -m launch.main --config=configs/biometrics/vein.py \
  --config.data.root=DIR
"""

from configs import biometrics


def get_config():
  return biometrics.study(
    'Finger veins',
    [f'finger_{number:03}_1' for number in range(1, 7)],
    poison_images=2,
    test_images=2,
    gray=True,
    passes=8,
  )
