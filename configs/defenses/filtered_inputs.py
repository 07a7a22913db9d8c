"""All pictures through filters, those of training and those at test time: no
detector is asked.

  python -m launch.main --config=configs/defenses/filtered_inputs.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.trainer': 'filtered_inputs',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
