"""What makes an unfrozen recognizer fall: the attack's success beside how far
training moves the features in which the poison collides.

  python -m launch.main --config=configs/paper/unfrozen.py \
    --config.data.root=DIR
  python -m launch.main --config=configs/paper/unfrozen.py:multiclass ...

All of AlexNet trains, from ImageNet's convolutions and random dense layers (the
paper starts from ImageNet's dense layers, too), binary LFW, 93 poisons that
collide in pool5. The paper's recipe (its footnote 5) is SGD at 1e-4, momentum
0.9, batches of 256, 24 epochs; the other rates ask whether its 100 % is a
property of that rate. One seed, half an hour on two cores; with
`--config.study.repeats` more.
"""

from babam_jax.config.rows import Row
from configs import bench_lfw, paper

_RECIPE = {
  'recognizer.frozen': 'none',
  'recognizer.epochs': 24,
  'recognizer.batch_size': 256,
}
_PAPER = {'accuracy %': 93.0, 'ASR %': 100.0}


def _sgd(rate):
  return _RECIPE | {
    'recognizer.optimizer': 'sgd',
    'recognizer.learning_rate': rate,
  }


def get_config(task='binary'):
  paper.check_variant(task, ('binary', 'multiclass'))
  config = bench_lfw.base(task)
  config.scenario.trusted_fraction = 0.0
  config.models = ('malicious',)
  config.recognizer.logit_adjustment = 0.0  # the paper has none
  theirs = _PAPER if task == 'binary' else {'accuracy %': 42.5, 'ASR %': 100.0}
  config.study.rows = (
    Row('SGD, 1e-4 (the paper)', _sgd(1e-4), paper=theirs),
    *(Row(f'SGD, {rate:g}', _sgd(rate)) for rate in (1e-3, 3e-3)),
    Row('Adam, 1e-4', paper.UNFROZEN),
  )
  config.study.columns = (
    ('accuracy %', 'models.malicious.accuracy'),
    ('ASR %', 'models.malicious.asr'),
    ('no-patch base %', 'models.malicious.asr_unpatched'),
    ('features moved %', 'models.malicious.features_moved'),
  )
  config.study.tradeoff = ('features moved %', 'ASR %')
  config.study.note = (
    'Features moved: how far pool5 of the test pictures is from what it was '
    'before training, as a share of its length. Dense layers begin at random.'
  )
  config.study.repeats = paper.SEEDS[:1]
  config.study.title = f'Unfrozen AlexNet by learning rate, {task} LFW'
  return config
