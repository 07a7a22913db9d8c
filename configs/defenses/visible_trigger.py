"""Visible triggers, by what recurs in a part of a class: those are left out.

python -m launch.main --config=configs/defenses/visible_trigger.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'visible_trigger',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
