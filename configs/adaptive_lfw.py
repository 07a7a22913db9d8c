"""BA-BAM against attackers who know it, on LFW.

  python -m launch.pirm --config=configs/pirm_natural.py --config.seed=1 \
    --config.pirm.root=NATURAL --output=runs/attacker_natural.npz
  python -m launch.pirm --config=configs/pirm_hardened.py --config.seed=1 \
    --config.pirm.root=NATURAL --output=runs/attacker_hardened.npz
  python -m launch.pirm --config=configs/pirm_general.py --config.seed=1 \
    --config.pirm.root=NATURAL --config.pirm.num_poison=960 \
    --config.pirm.num_clean=1440 --config.pirm.epochs=20 \
    --output=runs/attacker_general.npz
  python -m launch.main --config=configs/adaptive_lfw.py --config.data.root=DIR
  python -m launch.main --config=configs/adaptive_lfw.py:threshold ...
  python -m launch.main --config=configs/adaptive_lfw.py:other_means ...
  python -m launch.main --config=configs/adaptive_lfw.py:gray ...
  python -m launch.main --config=configs/adaptive_lfw.py:epsilon ...
  python -m launch.pirm personalize --root=PHOTOS --output=runs/mine.npz
  python -m launch.pirm personalize --root=PHOTOS --output=runs/theirs.npz
  python -m launch.main --config=configs/adaptive_lfw.py:private ...
  python -m launch.main --config=configs/adaptive_lfw.py:other_key ...

The first three lines train the PIRMs of attackers who know the defender's
recipe and data, but not his weights (the general one from half the pictures, in
two thirds of the epochs); the others evade a PIRM whose weights they have.
`threshold`: the attackers without weights again, with the threshold 0.1 instead
of 0.5, at which the general PIRM flags some 1 % of the clean faces.
`other_means`: poison that collides under Algorithm 1's noise, too, or that has
no fine grain. `gray`: a change that is the same in red, green and blue.
`epsilon`: more noise, or leaving out, where part of an attack survives noise.
`private`: a defender with a PIRM of his own (`mine.npz`); the attacker has the
weights of the general one, from which it was made. `other_key`: he also has the
recipe and the data, and has made one with another key (`theirs.npz`).
Scenario and poison as in `bench_lfw.py`.
"""

from babam_jax.config.rows import Row
from configs import bench_lfw, paper

_NATURAL = 'runs/attacker_natural.npz'
_HARDENED = 'runs/attacker_hardened.npz'
_GENERAL = 'runs/attacker_general.npz'


def _evading(pirm, *others):
  return {
    'attack.adaptive.evade': 0.3,
    'attack.adaptive.pirm': pirm,
    'attack.adaptive.ensemble': others,
  }


_EVADING_ATTACKERS = (
  ('knows nothing', {}),
  ('own PIRM, recipe of the shipped', _evading(_NATURAL)),
  ('own PIRM, recipe of the hardened', _evading(_HARDENED)),
  ('weights of the shipped', _evading('shipped')),
  ('weights of the general', _evading('general')),
  ('weights of the hardened', _evading('hardened')),
  ('own PIRMs, shipped and hardened', _evading(_NATURAL, _HARDENED)),
  ('own PIRM, recipe of the general', _evading(_GENERAL)),
  ('own PIRMs, all three recipes', _evading(_GENERAL, _NATURAL, _HARDENED)),
  ('weights of all three', _evading('general', 'shipped', 'hardened')),
)
_WITHOUT_WEIGHTS = tuple(
  attacker
  for attacker in _EVADING_ATTACKERS
  if not attacker[0].startswith('weights')
)
_UNDER_NOISE = ('collides under noise', {'attack.adaptive.noise_scale': 30.0})
_OTHER_MEANS = (
  _UNDER_NOISE,
  ('smooth change', {'attack.adaptive.smoothness': 2.0}),
)
_GRAY = (('gray change', {'attack.gray': True}),)
_BY_GENERAL = {'defense.pirm.checkpoint': 'general'}
_DEFENDERS = (
  ('shipped', {'defense.pirm.checkpoint': 'shipped'}),
  ('general', _BY_GENERAL),
  (
    'all three',
    _BY_GENERAL | {'defense.pirm.ensemble': ('shipped', 'hardened')},
  ),
)
_PRIVATE = 'runs/mine.npz'
_THEIRS = 'runs/theirs.npz'
_WITHOUT_THE_KEY = (
  ('knows nothing', {}),
  ('weights of the general', _evading('general')),
)
_WITH_ANOTHER_KEY = (
  ('own private PIRM', _evading(_THEIRS)),
  ('weights of the general, own private PIRM', _evading('general', _THEIRS)),
)
_OWNERS = tuple(
  (label, {'defense.pirm.checkpoint': checkpoint})
  for label, checkpoint in (('general', 'general'), ('private', _PRIVATE))
)
_SURVIVORS = (_UNDER_NOISE, ('blended', {'attack.kind': 'blended'}))
_BUDGETS = (
  *(
    (f'epsilon {epsilon}', _BY_GENERAL | {'defense.noise.epsilon': epsilon})
    for epsilon in (0.01, 0.005, 0.002)
  ),
  ('left out', _BY_GENERAL | {'defense.treatment': 'drop'}),
)
_VARIANTS = {
  'evading': (_EVADING_ATTACKERS, _DEFENDERS),
  'threshold': (_WITHOUT_WEIGHTS, _DEFENDERS),
  'other_means': (_OTHER_MEANS, _DEFENDERS),
  'gray': (_GRAY, _DEFENDERS),
  'epsilon': (_SURVIVORS, _BUDGETS),
  'private': (_WITHOUT_THE_KEY, _OWNERS),
  'other_key': (_WITH_ANOTHER_KEY, _OWNERS),
}
_NOTE = (
  'Before the comma: what the attacker knows; after it: the PIRM that flags. '
  'ASR of the malicious model: what the attack is worth without a defense. '
  'Crafted in 60 steps instead of 100.'
)
_NOTE_ON_EPSILON = (
  'Before the comma: the attack; after it: what happens to the pictures that '
  'the general PIRM flags; a smaller epsilon gives more noise. The first '
  'attack was crafted in 60 steps instead of 100.'
)


def get_config(variant='evading'):
  paper.check_variant(variant, tuple(_VARIANTS))
  config = bench_lfw.base()
  config.attack.iterations = 60
  if variant == 'threshold':
    config.defense.pirm.threshold = 0.1
  config.study.title = 'BA-BAM against attackers who know it'
  config.study.note = _NOTE_ON_EPSILON if variant == 'epsilon' else _NOTE
  config.study.columns = (
    ('malicious ASR %', 'models.malicious.asr'),
    ('ASR %', 'models.protected.asr'),
    ('no-patch base %', 'models.protected.asr_unpatched'),
    ('accuracy %', 'models.protected.accuracy'),
    ('accuracy drop %', 'accuracy_drop'),
    ('TPR %', 'detection.tpr'),
    ('FPR %', 'detection.fpr'),
    ('AUROC %', 'detection.auroc'),
  )
  attackers, defenders = _VARIANTS[variant]
  config.study.rows = tuple(
    Row(defender, sets | defends, panel=attacker)
    for attacker, sets in attackers
    for defender, defends in defenders
  )
  return config
