"""Fingerprints: 30 fingers, 8 gray pictures each (a UareU sensor).

python -m launch.main --config=configs/biometrics/fingerprint.py \
  --config.data.root=DIR
"""

from configs import biometrics


def get_config():
  return biometrics.study(
    'Fingerprints',
    [f'finger_012_{number}' for number in range(1, 7)],
    poison_images=4,
    test_images=2,
    gray=True,
    passes=5,
  )
