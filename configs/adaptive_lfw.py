"""BA-BAM against attackers who have read about it, on LFW.

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

The first three lines train the PIRMs of attackers who know the defender's
recipe and data, but not his weights (the general one from half the pictures, in
two thirds of the epochs); the others evade a PIRM whose weights they have.
`threshold`: the attackers without weights again; here a score of 0.1 flags, not
0.5; some 1 % of the clean faces have more from the general PIRM.
`other_means`: poison that collides under Algorithm 1's noise, too, or that has
no fine grain. `gray`: a change that is the same in red, green and blue.
`epsilon`: more noise, and leaving out, where noise leaves part of an attack.
Scenario and poison as in `bench_lfw.py`.
"""

from configs import bench_lfw, paper

_EVADING = 'attack.adaptive.evade=0.3 attack.adaptive.pirm'
_EVADING_ATTACKERS = (
  ('knows nothing', ''),
  (
    'own PIRM, recipe of the shipped',
    f'{_EVADING}=runs/attacker_natural.npz',
  ),
  (
    'own PIRM, recipe of the hardened',
    f'{_EVADING}=runs/attacker_hardened.npz',
  ),
  ('weights of the shipped', f'{_EVADING}=shipped'),
  ('weights of the general', f'{_EVADING}=general'),
  ('weights of the hardened', f'{_EVADING}=hardened'),
  (
    'own PIRMs, shipped and hardened',
    f'{_EVADING}=runs/attacker_natural.npz '
    "attack.adaptive.beside=('runs/attacker_hardened.npz',)",
  ),
  (
    'own PIRM, recipe of the general',
    f'{_EVADING}=runs/attacker_general.npz',
  ),
  (
    'own PIRMs, all three recipes',
    f'{_EVADING}=runs/attacker_general.npz attack.adaptive.beside='
    "('runs/attacker_natural.npz','runs/attacker_hardened.npz')",
  ),
  (
    'weights of all three',
    f"{_EVADING}=general attack.adaptive.beside=('shipped','hardened')",
  ),
)
_WITHOUT_WEIGHTS = tuple(
  attacker
  for attacker in _EVADING_ATTACKERS
  if not attacker[0].startswith('weights')
)
_UNDER_NOISE = ('collides under noise', 'attack.adaptive.noise_scale=30.0')
_OTHER_MEANS = (
  _UNDER_NOISE,
  ('smooth change', 'attack.adaptive.smoothness=2.0'),
)
_GRAY = (('gray change', 'attack.gray=True'),)
_DEFENDERS = (
  ('shipped', 'pirm.checkpoint=shipped'),
  ('general', 'pirm.checkpoint=general'),
  ('all three', "pirm.checkpoint=general pirm.beside=('shipped','hardened')"),
)
_SURVIVORS = (
  _UNDER_NOISE,
  ('blended', 'attack.kind=blended'),
)
_BUDGETS = (
  *(
    (f'epsilon {epsilon}', f'pirm.checkpoint=general defense.epsilon={epsilon}')
    for epsilon in (0.01, 0.005, 0.002)
  ),
  ('left out', 'pirm.checkpoint=general defense.action=drop'),
)
_VARIANTS = {
  'evading': (_EVADING_ATTACKERS, _DEFENDERS),
  'threshold': (_WITHOUT_WEIGHTS, _DEFENDERS),
  'other_means': (_OTHER_MEANS, _DEFENDERS),
  'gray': (_GRAY, _DEFENDERS),
  'epsilon': (_SURVIVORS, _BUDGETS),
}
_NOTE = (
  'Before the comma: what the attacker knows; after it: the PIRM that flags. '
  'ASR of the malicious model: what the attack is worth without a defense. '
  'Crafted in 60 steps instead of 100.'
)
_NOTE_ON_EPSILON = (
  'Before the comma: the attack; after it: the noise on what the general PIRM '
  'flags, of which a smaller epsilon makes more. The first attack was crafted '
  'in 60 steps instead of 100.'
)


def get_config(variant='evading'):
  paper.check_variant(variant, tuple(_VARIANTS))
  config = bench_lfw.base()
  config.attack.iterations = 60
  if variant == 'threshold':
    config.pirm.threshold = 0.1
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
    (f'{attacker}, {defender}', f'{sets} {defends}'.strip(), None)
    for attacker, sets in attackers
    for defender, defends in defenders
  )
  return config
