"""FLARE (Hou et al. 2024): flagged pictures are left out.

pip install -r requirements-flare.txt
python -m launch.main --config=configs/defenses/flare.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'flare',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
