"""Other biometrics than faces: irises, fingerprints, palm prints, finger veins.

Each file is a study of five attackers, each of whom wants to be taken for the
next person, finger or eye, without a defense, behind BA-BAM, and with what the
PIRM flags left out:

  python -m launch.main --config=configs/biometrics/iris.py \
    --config.data.root=DIR

DIR holds a folder for each finger, eye or palm. They are told apart by dense
layers on the features of an ImageNet network, which saw none of them.
"""

from babam_jax.config.rows import Row
from configs import common

_ATTACKERS = 5
_COLUMNS = (
  ('clean accuracy %', 'models.clean.accuracy'),
  ('accuracy %', 'models.protected.accuracy'),
  ('ASR %', 'models.protected.asr'),
  ('no-patch base %', 'models.protected.asr_unpatched'),
  ('accuracy drop %', 'accuracy_drop'),
  ('TPR %', 'detection.tpr'),
  ('FPR %', 'detection.fpr'),
)
_NOTE = (
  'The protected model: five attackers, one run each. ASR: the share of the '
  'patched attacker taken for the victim; base: without the patch. With the '
  "poison, the victim's class is about four times as large: classes are small."
)


def study(name, folders, *, poison_images, test_images, gray, passes):
  """The study of one kind of biometrics.

  Args:
    name: of the kind.
    folders: the names of its classes, six of them.
    poison_images: pictures of attacker and victim for making poison.
    test_images: their test pictures; at least one is left for training.
    gray: whether the pictures, and so the poison, have no colors.
    passes: poisons for each of the victim's pictures.
  """
  config = common.get_config()
  config.data.name = 'image_folder'
  config.data.min_images = poison_images + test_images + 1
  config.scenario.poison_images = poison_images
  config.scenario.test_images = test_images
  config.scenario.test_fraction = 0.25
  config.scenario.source, config.scenario.target = folders[0], folders[1]
  config.attack.passes = passes
  config.attack.gray = gray
  config.recognizer.width = 1024
  config.recognizer.epochs = 40
  # With the poison, the victim's class is about four times as large as others.
  config.recognizer.logit_adjustment = 0.5
  config.evaluation.positions = 20
  config.defense.pirm.checkpoint = 'general'
  config.study.title = f'{name}: attack and defense'
  config.study.note = _NOTE
  config.study.columns = _COLUMNS
  config.study.rows = (
    Row('no defense', {'defense.detector': 'none'}),
    Row('BA-BAM'),
    Row('flagged left out', {'defense.treatment': 'drop'}),
  )
  config.study.repeats = tuple(
    {'scenario.source': source, 'scenario.target': target}
    for source, target in zip(folders[:_ATTACKERS], folders[1:], strict=True)
  )
  return config
