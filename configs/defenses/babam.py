"""BA-BAM (Algorithm 2): calibrated noise on what the PIRM flags.

python -m launch.main --config=configs/defenses/babam.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'pirm',
  'defense.treatment': 'noise',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
