"""BA-BAM beside the search for what recurs: noise on what the general PIRM
flags; pictures with a visible trigger are left out. As `launch.sanitize` with
`--action=perturb`.

python -m launch.main --config=configs/defenses/both_halves.py
"""

from configs import defenses

FIELDS = {
  'defense.detector': 'both_halves',
  'defense.treatment': 'by_kind',
  'defense.both_halves.checkpoint': 'general',
}


def get_config(experiment='orl_multiclass'):
  return defenses.defended(experiment, FIELDS)
