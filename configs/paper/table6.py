"""Table 6: the PIRM on the untrusted LFW training sets.

  python -m launch.main --config=configs/paper/table6.py --config.data.root=DIR

The paper's PIRM is trained on Tiny ImageNet (first figure) or CelebA (99.99 and
99.79 %), the shipped one on 1,600 photographs, none of them a face it judges.
25 minutes, three seeds; a minute after `table2.py`.
"""

from babam_jax.config.rows import Row
from configs import lfw_multiclass, paper


def get_config():
  config = lfw_multiclass.get_config()
  config.models = ('malicious',)
  config.study.title = 'Table 6: poison detection on LFW'
  config.study.note = (
    "The paper's PIRM is a VGG16 trained on Tiny ImageNet (these figures) or "
    'on CelebA (99.99 and 99.79 %).'
  )
  config.study.columns = (
    ('accuracy %', 'pirm.training_set.accuracy'),
    ('TPR %', 'pirm.training_set.tpr'),
    ('FPR %', 'pirm.training_set.fpr'),
    ('FPR on test pictures %', 'pirm.test_set.fpr'),
    ('poisoned', 'pirm.training_set.num_poisoned'),
    ('clean', 'pirm.training_set.num_clean'),
  )
  config.study.rows = (
    Row(
      'binary',
      paper.BINARY,
      paper={'accuracy %': 99.31, 'poisoned': 372, 'clean': 644},
    ),
    Row(
      'multi-class',
      paper.MULTICLASS,
      paper={'accuracy %': 99.15, 'poisoned': 372, 'clean': 1042},
    ),
  )
  config.study.repeats = paper.SEEDS
  return config
