"""All pictures through filters, those of training and those at test time."""

import dataclasses
import pathlib
from typing import ClassVar

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Trainer
from babam_jax.defenses.filters import Filters
from babam_jax.defenses.plain import Plain
from babam_jax.training.classifier import NetworkClassifier, load_network
from babam_jax.training.recognition import Recognition


class FilteringClassifier(NetworkClassifier):
  """A network that sees pictures through filters.

  Args:
    network: the network, trained on filtered pictures.
    filters: the filters.
  """

  def __init__(self, network: NetworkClassifier, filters: Filters):
    super().__init__(
      network.recognition, network.variables, network.num_classes, network.mask
    )
    self._filters = filters

  def inputs(self, pictures: Examples) -> np.ndarray:
    """What the network takes of pictures, once they are filtered."""
    seed = self.recognition.seed
    return super().inputs(self._filters.applied(pictures, seed))


@dataclasses.dataclass(frozen=True)
class FilteredInputs(Filters, Trainer):
  """Trains on filtered pictures; inputs are filtered, too.

  What filters do to poison they do without any detector, and as the network
  never sees another picture, it loses less than with filters in training alone
  (Xu et al. 2018, "Feature squeezing", put them before a network at test time).
  """

  gives_network: ClassVar[bool] = False  # of pictures as they are
  only_feeds: ClassVar[bool] = True

  def fit(self, context: Context, examples: Examples) -> FilteringClassifier:
    """Trains one network."""
    through = dataclasses.replace(
      context, recognition=_without_stored(context.recognition)
    )
    filtered = self.applied(examples, context.seed)
    return FilteringClassifier(Plain().fit(through, filtered), self)

  def load(
    self, recognition: Recognition, folder: pathlib.Path, num_classes: int
  ) -> FilteringClassifier:
    """Reads its network."""
    network = load_network(_without_stored(recognition), folder, num_classes)
    return FilteringClassifier(network, self)


def _without_stored(recognition: Recognition) -> Recognition:
  """What is stored are the features of unfiltered pictures."""
  return Recognition(
    recognition.settings, recognition.seed, recognition.batch_size
  )
