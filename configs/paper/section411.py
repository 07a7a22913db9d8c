"""Section 4.11: noise on every picture of the victim, epsilon 0.5, binary LFW.

  python -m launch.main --config=configs/paper/section411.py \
    --config.data.root=DIR

The paper: ASR 0 %, accuracy 50 %. Additive noise of a scale of at most 2 gray
levels, as its text says, is hardly visible; the arithmetic of the released
script destroys a picture at any epsilon. 25 minutes, three seeds; two minutes
after `table2.py`.
"""

from babam_jax.config.rows import Row
from configs import lfw_binary, paper

_PAPER = {'accuracy %': 50.0, 'ASR %': 0.0}


def get_config():
  config = lfw_binary.get_config()
  config.models = ('protected',)
  config.defense.detector = 'victim_class'
  config.defense.noise.epsilon = 0.5
  config.study.title = 'Section 4.11: noise on the whole class, LFW'
  config.study.note = (
    'The paper calls its noise Laplacian with epsilon 0.5, whose scale is at '
    'most 2 gray levels; the script released with it destroys a picture at any '
    'epsilon.'
  )
  config.study.columns = (
    ('accuracy %', 'models.protected.accuracy'),
    ('ASR %', 'models.protected.asr'),
  )
  config.study.rows = (
    Row('additive noise', {'defense.noise.mode': 'laplace'}, paper=_PAPER),
    Row(
      'the released script',
      {'defense.noise.mode': 'released'},
      paper=_PAPER,
    ),
    Row('additive, epsilon 0.005', {'defense.noise.epsilon': 0.005}),
  )
  config.study.repeats = paper.SEEDS
  return config
