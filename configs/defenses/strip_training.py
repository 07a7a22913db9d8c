"""STRIP (Gao et al. 2019) on the training pictures: flagged ones are left out.

20 overlays instead of 100: five times cheaper.

  python -m launch.main --config=configs/defenses/strip_training.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'strip',
  'defense.treatment': 'drop',
  'defense.strip.overlays': 20,
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
