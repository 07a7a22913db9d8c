"""Randomized smoothing of inputs (Cohen et al. 2019): noisy copies vote.

python -m launch.main --config=configs/defenses/smoothing.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.trainer': 'smoothing',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
