"""How much poison does the attack need, and can the defense bear (Table 5)?

  python -m launch.sweep --config=configs/sweeps/poison_fraction.py \
    --workdir=DIR

On ORL; `poison_fraction.py:lfw_binary` takes another experiment. The poison is
crafted once; each run uses a share of it.
"""

import itertools

from configs.sweeps import base

SHARES = (1.0, 0.6, 0.4, 0.2, 0.1)
SEEDS = (0, 1, 2)


def get_config(experiment='orl_multiclass'):
  return base.experiment(experiment)


def sweep(config):
  del config
  for seed, share in itertools.product(SEEDS, SHARES):
    yield {'seed': seed, 'attack.share': share}
