"""What is left of flagged pictures, and of the attack, by treatment, on LFW.

  python -m launch.main --config=configs/bench_treatments.py \
    --config.data.root=DIR
  python -m launch.main --config=configs/bench_treatments.py:faces ...
  python -m launch.main --config=configs/bench_treatments.py:filters ...
  python -m launch.main --config=configs/bench_treatments.py:pairs ...
  python -m launch.main --config=configs/bench_treatments.py:attackers ...

93 pictures of the victim are poisoned; 5, 10, 20 or all clean ones are
left beside them, on a frozen AlexNet (the default), or on dlib's face network,
attacked by a stranger (`faces`). `filters`: which filters, with 10 clean ones
left; one seed. `pairs`: the headline's five pairs of people, with its poison.
`attackers`: those who know that there will be noise or filters, and a visible
trigger that no PIRM is to find. The others have three seeds.
"""

from babam_jax.config.rows import Row
from configs import bench_lfw, lfw_faces, lfw_multiclass, paper
from configs.defenses import filtered_inputs, fresh_noise
from configs.paper import headline

_LEFT = (5, 10, 20, 0)


def _by(treatment, **sets):
  chosen = {f'defense.{treatment}.{name}': x for name, x in sets.items()}
  return {'defense.treatment': treatment} | chosen


_FAINT = fresh_noise.FIELDS | {'defense.fresh_noise.weight': 0.1}

_TREATMENTS = {
  'no defense': {'defense.detector': 'none'},
  'left out': _by('drop'),
  'Algorithm 1': _by('noise'),
  'filtered, alone': _by('filtered', everywhere=False),
  'filtered, all': _by('filtered'),
  'behind filters': filtered_inputs.FIELDS,
  'fresh noise': fresh_noise.FIELDS,
  'fresh noise, weight 0.1': _FAINT,
}
_MEANS, _JPEG = {'non_local_means': 15.0}, {'jpeg': 20.0}
_FILTERS = {
  'non-local means 15': (_MEANS,),
  'JPEG 20': (_JPEG,),
  'both': (_MEANS, _JPEG),
  'non-local means 15, JPEG 30': (_MEANS, {'jpeg': 30.0}),
  'non-local means 20, JPEG 30': ({'non_local_means': 20.0}, {'jpeg': 30.0}),
  'a third of the size': ({'smaller': 3.0},),
  'median 5 x 5': ({'median': 2.0},),
  'noise 25': ({'noise': 25.0},),
  'non-local means 10, noise 10': ({'non_local_means': 10.0}, {'noise': 10.0}),
}
_OF_PAIRS = _TREATMENTS | {
  'Algorithm 1, epsilon 0.005': _by('noise', epsilon=0.005),
  'constant noise': _by('noise', distance='constant'),
}
_ATTACKERS = {
  'knows nothing': {},
  'collides under noise': {'attack.adaptive.noise_scale': 30.0},
  'smooth change': {'attack.adaptive.smoothness': 2.0},
  'blended': {'attack.kind': 'blended'},
}
# A change of one gray level in one step: what the pictures are without poison.
_NEVER_POISONED = {
  'attack.eps': 1.0,
  'attack.iterations': 1,
  'defense.detector': 'none',
}
_COLUMNS = (
  ('victim recognized %', 'models.protected.victim_recognized'),
  ('ASR %', 'models.protected.asr'),
  ('no-patch base %', 'models.protected.asr_unpatched'),
  ('accuracy %', 'models.protected.accuracy'),
  ('accuracy drop %', 'accuracy_drop'),
  ('TPR %', 'detection.tpr'),
  ('FPR %', 'detection.fpr'),
)
_NOTE = (
  "The protected model. Victim recognized: the share of the victim's test "
  'pictures that are taken for the victim. ASR: that of the patched attacker. '
  '"Behind filters": the test pictures are filtered, too. "Never poisoned": '
  'with a change of one gray level in place of poison.'
)


def _by_treatment():
  cases = _TREATMENTS | {'never poisoned': _NEVER_POISONED}
  for label, sets in cases.items():
    for count in _LEFT:
      chosen = {'scenario.target_images': count} | sets
      yield Row(f'{label}, {count or "all"} left', chosen)


def _by_filter():
  for everywhere in (False, True):
    for label, steps in _FILTERS.items():
      chosen = _by('filtered', steps=steps, everywhere=everywhere)
      panel = 'all pictures' if everywhere else 'flagged alone'
      few = {'scenario.target_images': 10}
      yield Row(label, few | chosen, panel=panel)


def _by_pair():
  for panel, sets in headline.PAIRS:
    for label, treated in _OF_PAIRS.items():
      yield Row(label, sets | treated, panel=panel)


def _by_attacker():
  for panel, attack in _ATTACKERS.items():
    for label, treated in _TREATMENTS.items():
      yield Row(label, attack | treated, panel=panel)


_VARIANTS = {
  'alexnet': (bench_lfw.base, _by_treatment),
  'faces': (lfw_faces.get_config, _by_treatment),
  'filters': (bench_lfw.base, _by_filter),
  'pairs': (lfw_multiclass.get_config, _by_pair),
  'attackers': (bench_lfw.base, _by_attacker),
}


def get_config(variant='alexnet'):
  paper.check_variant(variant, tuple(_VARIANTS))
  base, rows = _VARIANTS[variant]
  config = base()
  config.scenario.trusted_fraction = 0.0
  config.evaluation.positions = 5
  config.study.rows = tuple(rows())
  config.study.tradeoff = ('ASR %', 'victim recognized %')
  config.study.columns = _COLUMNS
  config.study.note = _NOTE
  config.study.repeats = paper.SEEDS[: 1 if variant == 'filters' else 3]
  config.study.title = f'Treatments on LFW, {variant}'
  return config
