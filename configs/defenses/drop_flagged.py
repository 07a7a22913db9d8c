"""What the PIRM flags is left out: the obvious alternative to noise.

python -m launch.main --config=configs/defenses/drop_flagged.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'pirm',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
