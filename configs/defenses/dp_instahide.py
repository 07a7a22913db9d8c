"""DP-InstaHide (Borgnia et al. 2021): training on noised mixtures.

python -m launch.main --config=configs/defenses/dp_instahide.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.trainer': 'dp_instahide',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
