"""STRIP (Gao et al. 2019), as published: suspicious inputs are refused.

20 overlays instead of 100: five times cheaper.

  python -m launch.main --config=configs/defenses/strip.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.input_check': 'strip',
  'defense.strip.overlays': 20,
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
