"""How a PIRM is trained on natural pictures (paper 3.4 and 4.10)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from babam_jax import errors, settings
from babam_jax.attacks.hidden_trigger import HiddenTrigger
from babam_jax.defenses import pirm
from babam_jax.models import residual_pirm
from babam_jax.models.pretrained import weights
from babam_jax.settings import setting
from babam_jax.training import optimizer

_VGG16_CONVS = 13
Kind = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PirmSettings:
  """What a PIRM learns from, and how it trains."""

  variant: str = setting(
    'compact', "The network; 'vgg16' is the paper's.", choices=pirm.VARIANTS
  )
  start_from: str = setting(
    '',
    'Begin with the layers of this PIRM, but for the first: a name or a file; '
    "'': with random ones.",
  )
  filters: int = setting(
    residual_pirm.FILTERS,
    'residual: filters of the first layer; the others have as many, or twice '
    'as many. The time per picture grows with their square. With start_from '
    'as many as there.',
    at_least=1,
    at_most=512,
  )
  trainable_convs: int = setting(
    6,
    'vgg16: convolutions that train, counted from the last (of 13).',
    at_least=0,
    at_most=_VGG16_CONVS,
  )
  root: str = setting(
    '',
    'A folder of natural images, at any depth; never the faces to be judged.',
  )
  more_roots: tuple[str, ...] = setting(
    (), 'Further folders of natural images.', each=(str,)
  )
  leave_out: tuple[str, ...] = setting(
    (),
    'Leave out pictures whose path below its folder begins with one of these.',
    each=(str,),
  )
  native: bool = setting(
    False,
    'Pictures larger than data.size keep their resolution and are cropped, as '
    'often as it takes; half of the pictures of each folder are held out.',
  )
  num_poison: int = setting(
    320, 'Pictures to poison; as many again serve as sources.', at_least=1
  )
  num_hosts: int = setting(
    0,
    'Further pictures to train on; each gets the change that made a poison of '
    'another picture, turned and weakened.',
    at_least=0,
  )
  num_clean: int = setting(
    960, 'Clean pictures besides the originals of the poison.', at_least=1
  )
  gray_fraction: float = setting(
    0.25,
    'The share of pictures that are made gray before anything else.',
    at_least=0,
    at_most=1,
  )
  textured_fraction: float = setting(
    0.0,
    'The share of pictures that first get the look of another origin: the '
    'noise of a sensor, grain, a printing screen, ridges (data/origins.py).',
    at_least=0,
    at_most=1,
  )
  typical_textured: float = setting(
    0.1,
    'The share of such pictures among the clean ones held out of which rates '
    'are measured: fewer than are learned from, as users have fewer.',
    at_least=0,
    below=1,
  )
  holdout_fraction: float = setting(
    0.3,
    'The share of pictures held out for calibration and measurement.',
    above=0,
    below=1,
  )
  processed_copies: int = setting(
    0,
    'How often each picture is used, each time processed in another way '
    '(JPEG, resizing, blur, sharpening, noise); 0: once, as it is.',
    at_least=0,
  )
  poison: HiddenTrigger = setting(
    HiddenTrigger(iterations=60), 'How the poison is made.'
  )
  kinds: tuple[Kind, ...] = setting(
    ({},),
    'Kinds of poison, each for an equal share of the pictures: what each sets '
    "in pirm.poison, {'tap': 'fc7', 'eps': 8}.",
    at_least=1,
    each=(Mapping,),
  )
  paired: bool = setting(
    False,
    'A poison and its original are in the same batch, cropped alike.',
  )
  measured_at: float = setting(
    0.5,
    'The threshold at which the PIRM is measured on pictures held out.',
    at_least=0,
    at_most=1,
  )
  optimizer: str = setting(
    'adam_cosine', 'The optimizer.', choices=optimizer.OPTIMIZERS
  )
  learning_rate: float = setting(2e-3, 'The initial rate.', above=0)
  epochs: int = setting(40, 'Passes over the pictures.', at_least=1)
  batch_size: int = setting(
    64, 'Pictures per step, over all devices.', at_least=1
  )
  checkpoint_every: int = setting(
    5, 'Epochs between two checkpoints.', at_least=1
  )

  def check(self, size: int) -> None:
    """Checks that a PIRM can be trained.

    Args:
      size: the size of the pictures, in pixels a side.

    Raises:
      UserError: there are no pictures to train on, or no weights to start
        from.
    """
    if not self.root:
      settings.refuse(
        'pirm.root',
        self.root,
        'a folder of natural images, to train the PIRM on',
        'Set it with --config.pirm.root=DIR, or use the PIRM that comes with '
        "the project: --config.defense.pirm.checkpoint='shipped'.",
      )
    if round(self.num_poison * self.holdout_fraction) < 2:
      settings.refuse(
        'pirm.holdout_fraction',
        self.holdout_fraction,
        'at least two of config.pirm.num_poison pictures held out: one to '
        'calibrate the PIRM, one to measure it',
      )
    for name, count in (
      ('num_poison', self.num_poison),
      ('num_clean', self.num_clean),
    ):
      if count - round(count * self.holdout_fraction) < 1:
        settings.refuse(
          'pirm.holdout_fraction',
          self.holdout_fraction,
          f'one that leaves some of config.pirm.{name} to train on',
        )
    if self.paired and self.batch_size % 2:
      settings.refuse(
        'pirm.batch_size',
        self.batch_size,
        'an even number: with config.pirm.paired, pairs stay together',
      )
    for number in range(len(self.kinds)):
      self._check_kind(number, size)
    if self.start_from:
      self._check_start()
    if self.variant == 'vgg16':
      weights.fingerprint('vgg16', 'trunk', 'config.pirm')

  def _check_start(self) -> None:
    pirm.check_file('pirm.start_from', self.start_from)
    path = pirm.path_of(self.start_from)
    found = pirm.load(path, 'config.pirm.start_from').variant
    if found != self.variant or found not in pirm.SMALL:
      small = ' or '.join(pirm.SMALL)
      settings.refuse(
        'pirm.start_from',
        self.start_from,
        f'a PIRM of the variant {self.variant!r} (it is {found!r}), {small}',
      )

  def _check_kind(self, number: int, size: int) -> None:
    poison = poison_of_kind(self, number)
    try:
      settings.check(poison, 'pirm.poison')
      poison.check('pirm.poison', size)
      poison.facts('config.pirm.poison')
    except errors.UserError as error:
      found = label(self.kinds[number])
      raise errors.UserError(
        f'config.pirm.kinds[{number}], {found!r}: {error}'
      ) from None


def poison_of_kind(chosen: PirmSettings, number: int) -> HiddenTrigger:
  """How poison of one kind is made.

  Raises:
    UserError: the kind sets a setting that is not there, or wrongly.
  """
  found = chosen.kinds[number]
  try:
    return settings.replace(chosen.poison, found)
  except (KeyError, TypeError) as error:
    raise errors.UserError(
      f'config.pirm.kinds[{number}]: cannot set {found!r} ({error}); '
      "expected settings of config.pirm.poison, {'tap': 'fc7', 'eps': 8}."
    ) from None


def label(kind: Kind) -> str:
  """A kind of poison in words: 'tap=fc7 eps=8'."""
  return ' '.join(f'{name}={value}' for name, value in kind.items())
