"""All training pictures are filtered as soon as the PIRM flags one: the victim
keeps the use of the flagged ones.

  python -m launch.main --config=configs/defenses/filtered.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'pirm',
  'defense.treatment': 'filtered',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
