"""New noise on what the PIRM flags in every step of training, in place of one
draw.

  python -m launch.main --config=configs/defenses/fresh_noise.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'pirm',
  'defense.treatment': 'none',
  'defense.trainer': 'fresh_noise',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
