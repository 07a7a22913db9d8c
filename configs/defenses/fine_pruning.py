"""Fine-Pruning (Liu et al. 2018) of the model under attack.

python -m launch.main --config=configs/defenses/fine_pruning.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.repair': 'fine_pruning',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
