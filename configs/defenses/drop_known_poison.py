"""All poison, and nothing else, is left out: what no detector can better.

python -m launch.main --config=configs/defenses/drop_known_poison.py
"""

from configs import defenses

FIELDS = {
  'defense.flags': 'oracle',
  'defense.action': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
