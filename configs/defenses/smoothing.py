"""Randomized smoothing (Wang et al. 2020): noise in training, votes on inputs.

python -m launch.main --config=configs/defenses/smoothing.py
"""

from configs import defenses

FIELDS = {
  'defense.action': 'none',
  'defense.training': 'smoothing',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
