"""The tables and figures of the paper, one config each.

Each runs with `python -m launch.main --config=configs/paper/X.py
--config.data.root=DIR`, where DIR is LFW by default. The times are for two CPU
cores and an empty artifact store.
"""

SEEDS = ({'seed': 0}, {'seed': 1}, {'seed': 2})
# All of the recognizer trains; it starts from ImageNet's convolutions.
UNFROZEN = {
  'recognizer.frozen': 'none',
  'recognizer.learning_rate': 1e-4,
  'recognizer.epochs': 12,
  'recognizer.batch_size': 64,
}
BINARY = {'scenario.task': 'binary', 'recognizer.logit_adjustment': 3.0}
MULTICLASS = {'scenario.task': 'multiclass'}


def check_variant(found, known):
  """Refuses `--config=FILE:found` unless the file knows the variant."""
  if found not in known:
    raise ValueError(f'variant {found!r}; expected one of {", ".join(known)}')
