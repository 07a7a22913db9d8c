"""All poison, and nothing else, is left out: no detector can do better.

python -m launch.main --config=configs/defenses/drop_known_poison.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'oracle',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
