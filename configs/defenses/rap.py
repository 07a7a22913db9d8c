"""RAP (Yang et al. 2021), from words to pixels: inputs of the victim's class
that resist a learned perturbation are refused.

  python -m launch.main --config=configs/defenses/rap.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'none',
  'defense.input_check': 'rap',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
