"""From which probability on should the PIRM flag?

  python -m launch.sweep --config=configs/sweeps/pirm_thresholds.py \
    --workdir=DIR

On ORL; `pirm_thresholds.py:lfw_multiclass` takes another experiment. Poison and
scores are computed once.
"""

from configs.sweeps import base

THRESHOLDS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


def get_config(experiment='orl_multiclass'):
  return base.experiment(experiment)


def sweep(config):
  del config
  for threshold in THRESHOLDS:
    yield {'defense.pirm.threshold': threshold}
