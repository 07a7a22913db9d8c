"""RAP (Yang et al. 2021) on the training pictures: flagged ones are left out.

python -m launch.main --config=configs/defenses/rap_training.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'rap',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
