"""Noise of one scale on what the PIRM flags: BA-BAM without Algorithm 1's
calibration.

  python -m launch.main --config=configs/defenses/constant_noise.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'pirm',
  'defense.noise.distance': 'constant',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
