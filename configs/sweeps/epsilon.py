"""How much noise? The defense over its budget (Figure 8).

  python -m launch.sweep --config=configs/sweeps/epsilon.py --workdir=DIR

On ORL; `epsilon.py:lfw_multiclass` takes another experiment. All that comes
before the noise is computed once.
"""

from configs.sweeps import base

EPSILONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def get_config(experiment='orl_multiclass'):
  return base.experiment(experiment)


def sweep(config):
  del config
  for epsilon in EPSILONS:
    yield {'defense.noise.epsilon': epsilon}
