"""Activation Clustering (Chen et al. 2018): flagged pictures are left out.

python -m launch.main --config=configs/defenses/activation_clustering.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'activation_clustering',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
