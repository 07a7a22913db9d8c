"""Palm prints: 26 palms, 4 photographs each (COEP).

python -m launch.main --config=configs/biometrics/palm.py \
  --config.data.root=DIR
"""

from configs import biometrics


def get_config():
  return biometrics.study(
    'Palm prints',
    [f'palm_00{number}' for number in (1, 2, 3, 4, 5, 7)],
    poison_images=1,
    test_images=1,
    gray=False,
    passes=12,
  )
