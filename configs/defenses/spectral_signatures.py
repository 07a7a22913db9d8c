"""Spectral Signatures (Tran et al. 2018): flagged pictures are left out.

python -m launch.main --config=configs/defenses/spectral_signatures.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'spectral_signatures',
  'defense.treatment': 'drop',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
