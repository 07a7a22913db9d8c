"""What a defense is: five choices.

Who *detects* poison among training pictures, what *treatment* flagged ones get,
who *trains* on the result, who *repairs* the trained model, and who *checks
inputs* at test time. Each is a frozen dataclass in a file of its own, whose
fields are its settings; its name stands in `catalog`. BA-BAM is one such
five-tuple: the PIRM, Algorithm 1's noise, plain training, no repair, no check.
"""

import abc
import dataclasses
import enum
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool

from babam_jax.data.examples import Examples
from babam_jax.defenses.pirm import Pirm
from babam_jax.defenses.suspect import Suspect, Verdict
from babam_jax.training import train
from babam_jax.training.classifier import (
  Classifier,
  NetworkClassifier,
  load_network,
)
from babam_jax.training.recognition import Recognition, RecognitionSettings


class Need(enum.Enum):
  """What a defense needs besides the pictures that it treats."""

  MODEL = 'a model that was trained on all training pictures'
  TRUSTED = 'clean pictures of all classes'
  PIRMS = 'poison image recognition models'
  FLAGS = 'which training pictures the detector has flagged'


@dataclasses.dataclass
class Meter:
  """Counts evaluations: one network on one picture.

  Attributes:
    judging: evaluations of the pictures that are judged.
    beforehand: all others: of trusted pictures, while learning.
    is_used: whether anything was counted, even 0.
  """

  judging: int = 0
  beforehand: int = 0
  is_used: bool = False

  def count(self, evaluations: int, beforehand: bool = False) -> None:
    """Adds evaluations; a defense that makes none has to add 0."""
    self.is_used = True
    if beforehand:
      self.beforehand += evaluations
    else:
      self.judging += evaluations

  def counts(self, whose: str) -> dict[str, int]:
    """The two counts by name.

    Raises:
      ValueError: `count` was never called: a cost would be hidden.
    """
    if not self.is_used:
      raise ValueError(
        f'{whose} has not counted its evaluations; a part that makes none '
        'says so with context.meter.count(0).'
      )
    return {'judging': self.judging, 'beforehand': self.beforehand}


@dataclasses.dataclass(frozen=True)
class Context:
  """What a defense may know and use.

  It holds no test picture of the attacker, and no ground truth except
  `Examples.poisoned` of the training set, which only `oracle` reads.

  Attributes:
    seed: the seed of all that is random.
    recognition: how recognizers are built, fed and trained.
    scratch: a folder for finished parts, which a restarted run reuses.
    victim: the label of the class to be protected.
    meter: counts evaluations.
    trusted: clean pictures, for defenses that need them (`Need.TRUSTED`).
    model: a model trained on all training pictures (`Need.MODEL`).
    pirms: the PIRMs that the detector uses (`Need.PIRMS`).
    flags: whether each training picture was flagged, for trainers
      (`Need.FLAGS`).
    on_epoch: receives each epoch's metrics, where one network is trained.
  """

  seed: int
  recognition: Recognition
  scratch: pathlib.Path
  victim: int
  meter: Meter
  trusted: Examples
  model: NetworkClassifier | None = None
  pirms: tuple[Pirm, ...] = ()
  flags: Bool[np.ndarray, ' n'] | None = None
  on_epoch: Callable[[train.EpochRecord], None] = lambda record: None

  @property
  def suspect(self) -> Suspect:
    """The trained model, from pixels to logits."""
    model = self._examined
    return Suspect(model.logits, model.whole, model.layers)

  @property
  def _examined(self) -> NetworkClassifier:
    if self.model is None:
      raise ValueError('A part that looks at a model declares Need.MODEL.')
    return self.model

  def activations(self, pictures: Examples) -> np.ndarray:
    """The model's last hidden layer, [n, d], one pass for each picture."""
    self.meter.count(len(pictures))
    return self._examined.activations(pictures)


class Part:
  """What all five kinds of parts have in common."""

  version: ClassVar[int] = 1  # raised when the code changes the result
  # Settings that matter only when its stored result is read: a threshold.
  # They are not in the stage's key; `Detector.decide` applies them.
  decided_later: ClassVar[frozenset[str]] = frozenset()
  # What it needs besides the pictures.
  needs: ClassVar[frozenset[Need]] = frozenset()

  def facts(self, field: str) -> dict[str, Any]:
    """What the result depends on besides the settings: hashes of files.

    Args:
      field: the path of the settings, for the error message.

    Raises:
      UserError: a file is missing.
    """
    del field
    return {}

  def check(self, path: str, recognizer: RecognitionSettings) -> None:
    """Checks rules between settings.

    Args:
      path: the path of the settings, below `config`.
      recognizer: the settings of the recognizer that is to be defended.

    Raises:
      UserError: settings contradict each other.
    """
    del path, recognizer


class Detector(Part, abc.ABC):
  """Tells poison from clean pictures."""

  # Whether it can check inputs, too: then `defense.input_check` offers it.
  judges_inputs: ClassVar[bool] = False
  is_none: ClassVar[bool] = False  # whether it means: no detector
  # Whether its verdict depends on nothing but the pictures, their labels and
  # what it needs: on no recognizer, and on no random number. Then recognizer
  # and seed are not in its stage's key.
  looks_at_pictures_alone: ClassVar[bool] = False
  # The PIRMs that it asks, by name or file, where it has `Need.PIRMS`.
  members: tuple[str, ...] = ()

  @property
  def cut(self) -> float | None:
    """The score above which it flags; None if it has no such number."""
    return None

  def holdouts(self, pirms: tuple[Pirm, ...]) -> dict[str, Any]:
    """What each of its PIRMs reached when it was trained, by name."""
    del pirms
    return {}

  @abc.abstractmethod
  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Judges training pictures, or inputs at test time.

    Args:
      context: what it may know; `context.meter` counts all evaluations.
      pictures: the pictures to judge; the labels of training pictures are
        known, those of inputs are not.
    """

  def decide(self, verdict: Verdict) -> Verdict:
    """Applies the settings in `decided_later` to a verdict."""
    return verdict


class Treatment(Part, abc.ABC):
  """What happens to flagged pictures before training."""

  @abc.abstractmethod
  def treat(self, examples: Examples, verdict: Verdict, seed: int) -> Examples:
    """The training set after treatment; ids and labels stay, pictures may go.

    Args:
      examples: the untrusted training set.
      verdict: which pictures were flagged.
      seed: the seed of all that is random.
    """


class Trainer(Part, abc.ABC):
  """Trains a recognizer."""

  # Whether the result is one network, which repairs and input checks need.
  gives_network: ClassVar[bool] = True
  # Whether it does no more than feed the recognizer: then it suits heads of
  # which nothing trains.
  only_feeds: ClassVar[bool] = False

  @abc.abstractmethod
  def fit(self, context: Context, examples: Examples) -> Classifier:
    """Trains on pictures; the model has further figures in `findings`.

    Args:
      context: what it may know; `context.on_epoch` receives each epoch's
        metrics. The passes of training count as seconds, not as evaluations.
      examples: the training set after treatment.
    """

  def load(
    self, recognition: Recognition, folder: pathlib.Path, num_classes: int
  ) -> Classifier:
    """Reads what the trained model's `save` wrote."""
    return load_network(recognition, folder, num_classes)


class Repair(Part, abc.ABC):
  """Changes a trained model."""

  @abc.abstractmethod
  def repair(
    self, context: Context, classifier: NetworkClassifier
  ) -> tuple[NetworkClassifier, dict[str, Any]]:
    """The repaired model, and what was found in it.

    Args:
      context: what it may know; `context.meter` counts all evaluations.
      classifier: the trained model, which stays as it is.
    """
