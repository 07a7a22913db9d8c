"""Deep k-NN (Peri et al. 2020): flagged pictures are left out.

python -m launch.main --config=configs/defenses/deep_knn.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'deep_knn',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
