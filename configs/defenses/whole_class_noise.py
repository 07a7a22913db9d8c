"""Calibrated noise on the victim's whole class (paper 4.11): no PIRM.

python -m launch.main --config=configs/defenses/whole_class_noise.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'victim_class',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
