"""Table 2: accuracy and attack success of the malicious models on ImageNet.

  python -m launch.main --config=configs/paper/table2_imagenet.py \
    --config.data.root=IMAGENET/train
  python -m launch.main --config=configs/paper/table2_imagenet.py:small \
    --config.data.root=CALTECH101

The attacker is `warplane`, the victim `french_bulldog`; multi-class adds the 20
classes of the ten random pairs of Saha et al. 2020. (The paper has 20 classes
picked by hand, which it does not name.) It gives accuracy and ASR of 98.0 and
92.0 % (binary), 92.8 and 89.8 % (multi-class). ImageNet's training half holds
one folder per WordNet id; some hours on two cores, not run here. `:small` is a
stand-in with 30 pictures a class of Caltech-101, helicopter against panda; ten
minutes, three seeds. The training curves are the ImageNet half of Figure 6.
"""

from babam_jax.config.rows import Row
from configs import common, paper

_WARPLANE, _FRENCH_BULLDOG = 'n04552348', 'n02108915'
_PAIRS = (
  ('n04243546', 'n02096294'),  # slot, Australian terrier
  ('n03666591', 'n02206856'),  # lighter, bee
  ('n04418357', 'n03970156'),  # theater curtain, plunger
  ('n04509417', 'n01807496'),  # unicycle, partridge
  ('n03792782', 'n03584254'),  # mountain bike, iPod
  ('n03063689', 'n02092002'),  # coffeepot, Scottish deerhound
  ('n02951585', 'n01819313'),  # can opener, sulphur-crested cockatoo
  ('n07697537', 'n04462240'),  # hotdog, toyshop
  ('n03272562', 'n02165105'),  # electric locomotive, tiger beetle
  ('n04592741', 'n03443371'),  # wing, goblet
)


def get_config(scale='paper'):
  config = common.get_config()
  config.models = ('malicious',)
  config.data.name = 'image_folder'
  config.recognizer.width = 1024
  paper.check_variant(scale, ('paper', 'small'))
  if scale == 'small':
    config.scenario.source, config.scenario.target = 'helicopter', 'panda'
    config.scenario.poison_images = 12
    config.scenario.test_images = 8
    config.scenario.negatives = 100
    config.attack.passes = 5
    config.recognizer.logit_adjustment = 0.5
  else:
    config.scenario.source = _WARPLANE
    config.scenario.target = _FRENCH_BULLDOG
    config.data.classes = (_WARPLANE, _FRENCH_BULLDOG, *sum(_PAIRS, ()))
    config.scenario.poison_images = 400
    config.scenario.test_images = 100
  small = scale == 'small'
  config.study.title = 'Table 2: malicious models on ' + (
    'Caltech-101, a stand-in for ImageNet' if small else 'ImageNet pairs'
  )
  config.study.note = (
    'The paper trains fc8 of an ImageNet AlexNet on 20 hand-picked classes; '
    'here all dense layers train.'
  )
  config.study.columns = (
    ('accuracy %', 'models.malicious.accuracy'),
    ('ASR %', 'models.malicious.asr'),
    ('no-patch base %', 'models.malicious.asr_unpatched'),
  )
  config.study.rows = (
    Row(
      'binary',
      paper.BINARY,
      paper={} if small else {'accuracy %': 98.0, 'ASR %': 92.0},
    ),
    Row(
      'multi-class',
      paper.MULTICLASS,
      paper={} if small else {'accuracy %': 92.8, 'ASR %': 89.8},
    ),
  )
  config.study.repeats = paper.SEEDS
  return config
