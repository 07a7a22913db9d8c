"""The headline over pairs of people and seeds: does BA-BAM hold?

  python -m launch.main --config=configs/paper/headline.py \
    --config.data.root=DIR

The five people with most pictures form a ring, in which each attacks the one
with the next larger number: chosen before anything was run. The first pair is
the paper's, with its split; the others have fewer pictures and so 140 poisons
instead of 372. The paper: ASR at most 20 % after the defense, accuracy at most
2.4 points lower. 55 minutes, three seeds.
"""

from babam_jax.config.rows import Row
from configs import lfw_multiclass, paper

RING = (
  ('Tony_Blair', 'Colin_Powell'),
  ('Donald_Rumsfeld', 'Tony_Blair'),
  ('Gerhard_Schroeder', 'Donald_Rumsfeld'),
  ('George_W_Bush', 'Gerhard_Schroeder'),
)
_FEWER = {'scenario.poison_images': 70, 'scenario.test_images': 25}
# Who attacks whom, and the fields that say so.
PAIRS = (
  ('Colin_Powell as George_W_Bush', {}),
  *(
    (
      f'{source} as {target}',
      {'scenario.source': source, 'scenario.target': target, **_FEWER},
    )
    for source, target in RING
  ),
)
_PAPER = {'malicious ASR %': 100.0, 'PIRM accuracy %': 99.15}


def get_config():
  config = lfw_multiclass.get_config()
  config.study.title = 'Headline: five pairs of people, LFW multi-class'
  config.study.note = (
    "The paper's claim over all its experiments: ASR at most 20 % behind the "
    'defense, accuracy at most 2.4 points lower. Its malicious model is an '
    'unfrozen AlexNet, this one has a frozen trunk. The first pair has 372 '
    'poisons, the others 140.'
  )
  config.study.columns = (
    ('malicious ASR %', 'models.malicious.asr'),
    ('its base %', 'models.malicious.asr_unpatched'),
    ('protected ASR %', 'models.protected.asr'),
    ('clean ASR %', 'models.clean.asr'),
    ('clean accuracy %', 'models.clean.accuracy'),
    ('accuracy drop %', 'accuracy_drop'),
    ('PIRM accuracy %', 'pirm.training_set.accuracy'),
  )
  config.study.rows = tuple(
    Row(pair, sets, paper={} if sets else _PAPER) for pair, sets in PAIRS
  )
  config.study.repeats = paper.SEEDS
  config.study.pooled = True
  return config
