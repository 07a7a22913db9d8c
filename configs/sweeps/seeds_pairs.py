"""Does it depend on who attacks whom, or on luck?

  python -m launch.sweep --config=configs/sweeps/seeds_pairs.py --workdir=DIR

On ORL; `seeds_pairs.py:lfw_multiclass` takes another experiment. Nothing but
the PIRM is the same in two runs.
"""

import itertools

from configs.sweeps import base

# Pairs of (attacker, victim).
PAIRS = {
  'orl': (('s2', 's1'), ('s5', 's9'), ('s14', 's30'), ('s21', 's7')),
  'lfw': (
    ('Colin_Powell', 'George_W_Bush'),
    ('Tony_Blair', 'George_W_Bush'),
    ('George_W_Bush', 'Colin_Powell'),
  ),
}
SEEDS = (0, 1, 2)


def get_config(experiment='orl_multiclass'):
  return base.experiment(experiment)


def sweep(config):
  for (source, target), seed in itertools.product(
    PAIRS[config.data.name], SEEDS
  ):
    yield {
      'scenario.source': source,
      'scenario.target': target,
      'seed': seed,
    }
