"""UltraClean (Zhao and Lao 2023): flagged pictures are left out.

python -m launch.main --config=configs/defenses/ultra_clean.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'ultra_clean',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
