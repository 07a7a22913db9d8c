"""Table 5: less and less poison, binary LFW.

  python -m launch.main --config=configs/paper/table5.py --config.data.root=DIR

80 % of the attacker's class is 372 poisons; the other rows put their share of
these into the training set, which is otherwise the same. (In the paper the
accuracy varies from row to row: 93, 85, 85, 89 %.) 25 minutes, three
seeds; two minutes after `table2.py`.
"""

from babam_jax.config.rows import Row
from configs import lfw_binary, paper

_PAPER = {
  80: (93.0, 100.0),
  50: (85.0, 95.6),
  30: (85.0, 91.4),
  15: (89.0, 82.8),
}


def get_config():
  config = lfw_binary.get_config()
  config.models = ('malicious',)
  config.study.title = 'Table 5: share of the attacker class poisoned, LFW'
  config.study.note = (
    "The training set is the same in all rows but for the poison. The paper's "
    'model is unfrozen, this one has a frozen trunk.'
  )
  config.study.columns = (
    ('accuracy %', 'models.malicious.accuracy'),
    ('ASR %', 'models.malicious.asr'),
    ('poisons', 'pirm.training_set.num_poisoned'),
  )
  config.study.rows = tuple(
    Row(
      f'{percent} %',
      {'attack.share': percent / 80},
      paper={'accuracy %': accuracy, 'ASR %': asr},
    )
    for percent, (accuracy, asr) in _PAPER.items()
  )
  config.study.repeats = paper.SEEDS
  return config
