"""One config for each defense: what it sets in an experiment.

Each runs alone with `python -m launch.main --config=configs/defenses/X.py`, on
ORL, or with `X.py:lfw_multiclass` on another experiment; `configs/bench_lfw.py`
runs all of them on the same poisoned faces.
"""

from configs.sweeps import base

# The share of each class's training pictures for defenses that need clean ones.
# No experiment trains on them, so that all train on the same pictures.
TRUSTED = 0.1


def defended(experiment, fields):
  """An experiment with a defense.

  Args:
    experiment: a file of `configs/`, 'lfw_multiclass' for instance.
    fields: what the defense sets, `{'defense.detector': 'strip'}`.
  """
  config = base.experiment(experiment)
  config.scenario.trusted_fraction = TRUSTED
  config.update_from_flattened_dict(fields)
  return config
