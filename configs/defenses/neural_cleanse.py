"""Neural Cleanse (Wang et al. 2019): triggers are reversed and unlearned.

python -m launch.main --config=configs/defenses/neural_cleanse.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.repair': 'neural_cleanse',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
