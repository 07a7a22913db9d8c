"""Table 3: architectures, frozen and not, on binary LFW.

  python -m launch.main --config=configs/paper/table3.py --config.data.root=DIR
  python -m launch.main --config=configs/paper/table3.py:embedded ...

The full table needs torchvision's four checkpoints (`python -m launch.weights
--model=... fetch`) and an accelerator; it follows the paper: 24 epochs of
SGD at 1e-4, momentum 0.9, batches of 256, only the last layer when frozen.
`:embedded` is what runs with the weights that come as packages, AlexNet's and
VGG16's convolutions, and random dense layers: frozen, the dense layers train;
unfrozen, everything does (Adam, 1e-4, 12 epochs). VGG16 stands for VGG11-BN. An
hour, three seeds.
"""

from babam_jax.config.rows import Row
from configs import lfw_binary, paper

_PAPER = (
  ('AlexNet', 'alexnet', (93.0, 100.0), (81.0, 100.0)),
  ('Inception', 'inception_v3', (93.0, 13.2), (65.0, 76.4)),
  ('ResNet', 'resnet18', (95.0, 5.6), (82.0, 44.8)),
  ('VGG', 'vgg11_bn', (96.0, 8.0), (84.0, 29.2)),
)


def _row(label, sets, accuracy, asr):
  return Row(label, sets, paper={'accuracy %': accuracy, 'ASR %': asr})


def get_config(weights='full'):
  paper.check_variant(weights, ('full', 'embedded'))
  config = lfw_binary.get_config()
  config.models = ('malicious',)
  config.study.title = 'Table 3: malicious models by architecture, binary LFW'
  config.study.columns = (
    ('accuracy %', 'models.malicious.accuracy'),
    ('ASR %', 'models.malicious.asr'),
    ('no-patch base %', 'models.malicious.asr_unpatched'),
  )
  config.study.repeats = paper.SEEDS
  if weights == 'embedded':
    config.study.note = (
      "Weights: ImageNet's convolutions, random dense layers, all of which "
      'train; poison that collides in pool5 of AlexNet. VGG16 stands for '
      'VGG11-BN; unfrozen: Adam, 1e-4, 12 epochs.'
    )
    config.study.rows = (
      _row('AlexNet unfrozen', paper.UNFROZEN, 93.0, 100.0),
      _row('AlexNet frozen', {'recognizer.frozen': 'trunk'}, 81.0, 100.0),
      _row('VGG16 frozen', {'recognizer.model': 'vgg16'}, 84.0, 29.2),
    )
    return config
  config.study.note = (
    'Every model learns from poison that collides in fc7 of AlexNet.'
  )
  config.recognizer.logit_adjustment = 0.0  # the paper has none
  config.attack.pretrained = 'full'
  config.attack.tap = 'fc7'
  config.recognizer.pretrained = 'full'
  config.recognizer.width = 4096
  config.recognizer.optimizer = 'sgd'
  config.recognizer.learning_rate = 1e-4
  config.recognizer.epochs = 24
  config.recognizer.batch_size = 256
  config.study.rows = tuple(
    _row(
      f'{name} {state}',
      {'recognizer.model': model, 'recognizer.frozen': frozen},
      *theirs,
    )
    for name, model, *found in _PAPER
    for state, frozen, theirs in zip(
      ('unfrozen', 'frozen'), ('none', 'all_but_last'), found, strict=True
    )
  )
  return config
