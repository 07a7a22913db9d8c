"""Irises: 60 eyes, 7 gray pictures each (CASIA-Iris V1).

python -m launch.main --config=configs/biometrics/iris.py \
  --config.data.root=DIR
"""

from configs import biometrics


def get_config():
  return biometrics.study(
    'Irises',
    [f'eye_{number:03}' for number in range(1, 7)],
    poison_images=3,
    test_images=2,
    gray=True,
    passes=6,
  )
