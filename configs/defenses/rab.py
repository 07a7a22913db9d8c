"""RAB (Weber et al. 2023): an ensemble trained on noised pictures.

Ten models instead of 1,000: certificates need more, predictions do not.

  python -m launch.main --config=configs/defenses/rab.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.trainer': 'rab',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
