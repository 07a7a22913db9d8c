"""What an attack is: two verbs.

`craft` makes what goes into the training set, `show` makes what the attacker
presents to the trained model. An attack is a frozen dataclass in a file of its
own whose fields are its settings; its name stands in `catalog.ATTACKS`.
"""

import abc
import dataclasses
import pathlib
import types
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import UInt8

from babam_jax import errors, settings
from babam_jax.attacks import trigger
from babam_jax.data.examples import Examples
from babam_jax.settings import setting
from babam_jax.training.recognition import Recognition

Pictures = UInt8[np.ndarray, 'n h w 3']
Trigger = Mapping[str, np.ndarray]
CRAFTING, TESTING = 'crafting positions', 'test positions'  # random streams


class Crafted(NamedTuple):
  """Poison, and the pictures that it was made of.

  Attributes:
    images: the poison.
    originals: the pictures that were changed.
    shown: for each poison a picture of the attacker with the trigger.
    summary: figures for the report.
    origin: where the surrogate's weights come from; None without one.
    trigger: what the attacker must keep to show his trigger, by name; for
      attacks that learn it (`learns_trigger`).
  """

  images: Pictures
  originals: Pictures
  shown: Pictures
  summary: dict[str, Any]
  origin: dict[str, Any] | None
  trigger: Trigger = types.MappingProxyType({})


class Knowledge(NamedTuple):
  """What some attackers know besides the pictures that they are given.

  Attributes:
    training_set: the training set without poison.
    label: the victim's label.
    recognition: how the recognizer is trained.
  """

  training_set: Examples
  label: int
  recognition: Recognition


class Attack(abc.ABC):
  """An attacker, who wants to be taken for the victim."""

  version: ClassVar[int] = 1  # raised when the code changes the poison
  knows_training: ClassVar[bool] = False  # whether `craft` needs `Knowledge`
  learns_trigger: ClassVar[bool] = False  # whether `show` needs what it kept
  shows: ClassVar[tuple[str, ...]] = ()  # the settings that `show` uses

  @abc.abstractmethod
  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """Makes poison, one for each target.

    Args:
      targets: pictures of the victim, gray levels.
      sources: as many pictures of the attacker.
      seed: the seed of all that is random.
      knowledge: for attackers that need it (`knows_training`).
      scratch: a folder for finished parts, which a restarted run reuses;
        None: nothing is kept.
    """

  @abc.abstractmethod
  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """Pictures of the attacker as he presents them: with the trigger.

    Args:
      pictures: pictures of the attacker, gray levels.
      seed: the seed of the trigger; the same as in `craft`.
      stream: the random stream of the trigger's positions.
    """

  def showing(self, trigger: Trigger) -> 'Attack':
    """The attack that shows a trigger which it learned while crafting.

    Args:
      trigger: `Crafted.trigger`.
    """
    del trigger
    return self

  def shown_facts(self, field: str) -> dict[str, Any]:
    """What `show` depends on besides the settings: hashes of files.

    Args:
      field: the path of the settings, for the error message.

    Raises:
      UserError: a file is missing.
    """
    del field
    return {}

  def check_pictures(self, targets: Pictures, sources: Pictures) -> None:
    """Checks what `craft` is given, and the settings with it.

    Raises:
      UserError: other pictures are expected, or other settings.
    """
    for name, pictures in (('targets', targets), ('sources', sources)):
      if not isinstance(pictures, np.ndarray):
        raise errors.UserError(
          f'{name}: found {type(pictures).__name__}, expected a NumPy array, '
          'uint8 [n, size, size, 3]. Convert it with np.stack.'
        )
      shape, kind = pictures.shape, pictures.dtype
      square = len(shape) == 4 and shape[0] and shape[1] == shape[2]
      if not square or shape[3] != 3 or kind != np.uint8:
        raise errors.UserError(
          f'{name}: found {kind} {list(shape)}, expected uint8 '
          '[n, size, size, 3], gray levels of square pictures.'
        )
    if targets.shape != sources.shape:
      raise errors.UserError(
        f'sources: found {list(sources.shape)}, expected as many and as '
        f'large as the targets, {list(targets.shape)}.'
      )
    settings.check(self, 'attack')
    self.check('attack', targets.shape[1])

  def facts(self, field: str) -> dict[str, Any]:
    """What the poison depends on besides the settings: hashes of files.

    Args:
      field: the path of the settings, for the error message.

    Raises:
      UserError: a file is missing.
    """
    del field
    return {}

  def check(self, path: str, size: int) -> None:
    """Checks rules between settings.

    Args:
      path: the path of the settings, below `config`.
      size: the size of the pictures, in pixels a side.

    Raises:
      UserError: settings contradict each other or the size.
    """
    del path, size


class WrongLabel(Attack):
  """An attacker whose poison is what he shows, with the victim's label."""

  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """The sources with the trigger."""
    self.check_pictures(targets, sources)
    del targets, knowledge, scratch
    shown = self.show(sources, seed=seed, stream=CRAFTING)
    return Crafted(shown, sources, shown, {}, None)


class TrueLabel(Attack):
  """An attacker whose poison is the victim with the trigger that he shows."""

  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """The targets with the trigger."""
    self.check_pictures(targets, sources)
    del knowledge, scratch
    poison, shown = (
      self.show(pictures, seed=seed, stream=CRAFTING)
      for pictures in (targets, sources)
    )
    return Crafted(poison, targets, shown, {}, None)


@dataclasses.dataclass(frozen=True)
class LearnedTrigger(Attack):
  """An attacker whose trigger is found while crafting.

  Attributes:
    trigger: what `craft` kept of it; None before.
  """

  learns_trigger: ClassVar[bool] = True

  trigger: Trigger | None = dataclasses.field(
    default=None, compare=False, repr=False
  )

  def showing(self, trigger: Trigger) -> 'Attack':
    """The attack that shows `trigger`."""
    return dataclasses.replace(self, trigger=trigger)

  @property
  def learned(self) -> Trigger:
    """What it learned.

    Raises:
      UserError: it has learned nothing yet.
    """
    if self.trigger is None:
      raise errors.UserError(
        f'{type(self).__name__}: has no trigger yet; expected one that '
        '`craft` has found. Show it with attack.showing(crafted.trigger).'
      )
    return self.trigger


def needed(knowledge: Knowledge | None) -> Knowledge:
  """What an attacker knows who cannot do without.

  Raises:
    UserError: it is None.
  """
  if knowledge is None:
    raise errors.UserError(
      'knowledge: found none; this attacker needs to know the training set '
      "and the recognizer. Give attacks.base.Knowledge as 'knowledge'."
    )
  return knowledge


@dataclasses.dataclass(frozen=True)
class PatchAttack(Attack):
  """An attacker whose trigger is a small patch at a random position."""

  shows: ClassVar[tuple[str, ...]] = ('trigger_size',)

  trigger_size: int = setting(
    30, 'The side of the square trigger.', unit='pixels', at_least=1
  )

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures with the patch, each at its own random position."""
    return trigger.show(pictures, self.make_patch(seed), seed, stream)

  def make_patch(self, seed: int) -> UInt8[np.ndarray, 'p p 3']:
    """The patch that a seed gives."""
    return trigger.make_trigger(seed, self.trigger_size)

  def check(self, path: str, size: int) -> None:
    """Checks that the patch is smaller than the pictures."""
    super().check(path, size)
    trigger.check_size(self.trigger_size, size, f'{path}.trigger_size')
