"""Attack and defense where people are recognized by a face network, on LFW.

  python -m launch.main --config=configs/bench_faces.py:enrolment \
    --config.data.root=DIR
  python -m launch.main --config=configs/bench_faces.py:budget ...
  python -m launch.main --config=configs/bench_faces.py:matrix ...
  python -m launch.main --config=configs/bench_faces.py:pairs ...

`enrolment`: what tells people apart, and whether the attacker is one of them;
dlib's network. `budget`: from 1 to 16 gray levels, dlib's network and
MobileFaceNet. `matrix`: poison from AlexNet and from these two against these
two; `vgg16`: poison from VGG16, one seed, as it takes long. `pairs`: five
pairs of people, dlib's network. The others have three seeds. MobileFaceNet's
weights come from an ONNX file of yours (`configs/lfw_faces.py`).
"""

import functools

from babam_jax.config.rows import Row
from configs import lfw_faces, paper
from configs.paper import headline

_DLIB, _MOBILE = 'dlib_resnet', 'mobile_face_net'
_TREATMENTS = (
  ('no defense', {'defense.detector': 'none'}),
  ('BA-BAM', {}),
  ('flagged left out', {'defense.treatment': 'drop'}),
)
# The threshold of `launch.sanitize --fpr=0.01`; that of experiments is 0.5.
_AT_RATE = 0.701
_LEFT_OUT_AT_RATE = (
  'flagged at a rate of 1 % left out',
  {'defense.treatment': 'drop', 'defense.pirm.threshold': _AT_RATE},
)
_HEADS = ('dense', 'cosine', 'nearest_mean')
_BUDGETS = (1, 2, 4, 8, 16)
# The distance that ends crafting is one of features of another kind.
_IMAGENET = {'attack.tap': 'pool5', 'attack.stop_distance': 10.0}
_SURROGATES = {
  'AlexNet': {'attack.model': 'alexnet'} | _IMAGENET,
  'VGG16': {
    'attack.model': 'vgg16',
    'attack.batch_size': 16,
    'attack.iterations': 30,  # of some seconds each
  }
  | _IMAGENET,
  'dlib': lfw_faces.surrogate(_DLIB),
  'MobileFaceNet': lfw_faces.surrogate(_MOBILE),
}
_RECOGNIZERS = {'dlib': _DLIB, 'MobileFaceNet': _MOBILE}
_COLUMNS = (
  ('accuracy %', 'models.protected.accuracy'),
  ('ASR %', 'models.protected.asr'),
  ('no-patch base %', 'models.protected.asr_unpatched'),
  ('without attack %', 'models.clean.asr'),
  ('accuracy drop %', 'accuracy_drop'),
  ('TPR %', 'detection.tpr'),
  ('FPR %', 'detection.fpr'),
)
_VERIFIED = (
  ('EER %', 'models.protected.verification.eer'),
  ('TAR % at FAR 1 %', 'models.protected.verification.at_far_1e-2.tar'),
  ('accepted at FAR 1 %', 'models.protected.verification.at_far_1e-2.accepted'),
  (
    'without attack at FAR 1 %',
    'models.clean.verification.at_far_1e-2.accepted',
  ),
  ('TAR % at FAR 0.1 %', 'models.protected.verification.at_far_1e-3.tar'),
  (
    'accepted at FAR 0.1 %',
    'models.protected.verification.at_far_1e-3.accepted',
  ),
  (
    'without attack at FAR 0.1 %',
    'models.clean.verification.at_far_1e-3.accepted',
  ),
)
_NOTE = (
  'The protected model. ASR: the share of the patched attacker taken for the '
  'victim (1:N); base: without the patch; without attack: by the model that '
  'saw no poison, as a stranger, too, is always taken for somebody. '
  'Verification (1:1): all test pictures against the templates of all people; '
  'accepted: the share of the patched attacker who passes as the victim at '
  'that threshold. Two thousand false pairs a run: two of them are FAR 0.1 %. '
  'The network stays as it is; the poison collides in its embedding.'
)


def _enrolment():
  for enrolled in (True, False):
    for head in _HEADS:
      sets = {'scenario.enrolled': enrolled, 'recognizer.head': head}
      who = 'enrolled' if enrolled else 'a stranger'
      for label, treated in _TREATMENTS:
        yield Row(label, sets | treated, panel=f'attacker {who}, {head}')


def _budget():
  for name, model in _RECOGNIZERS.items():
    sets = lfw_faces.recognized_by(model) | _SURROGATES[name]
    for label, treated in (*_TREATMENTS, _LEFT_OUT_AT_RATE):
      for eps in _BUDGETS:
        chosen = {'attack.eps': float(eps)} | treated
        yield Row(str(eps), sets | chosen, panel=f'{name}, {label}')


def _matrix(surrogates=('AlexNet', 'dlib', 'MobileFaceNet')):
  for name, model in _RECOGNIZERS.items():
    for surrogate in surrogates:
      sets = lfw_faces.recognized_by(model) | _SURROGATES[surrogate]
      panel = f'{surrogate} against {name}'
      for label, treated in _TREATMENTS:
        yield Row(label, sets | treated, panel=panel)


def _pairs():
  for panel, sets in headline.PAIRS:
    for label, treated in _TREATMENTS:
      yield Row(label, sets | treated, panel=panel)


_ROWS = {
  'enrolment': _enrolment,
  'budget': _budget,
  'matrix': _matrix,
  'vgg16': functools.partial(_matrix, ('VGG16',)),
  'pairs': _pairs,
}


def get_config(variant='enrolment'):
  paper.check_variant(variant, tuple(_ROWS))
  config = lfw_faces.get_config()
  config.evaluation.positions = 5
  config.study.title = f'Face networks on LFW, {variant}'
  config.study.note = _NOTE
  config.study.rows = tuple(_ROWS[variant]())
  config.study.repeats = paper.SEEDS[: 1 if variant == 'vgg16' else 3]
  # Dense layers have no templates.
  has_templates = variant != 'enrolment'
  config.study.columns = _COLUMNS + (_VERIFIED if has_templates else ())
  if variant == 'budget':
    config.study.x = 'attack.eps'
  return config
