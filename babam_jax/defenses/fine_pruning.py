"""Fine-Pruning (Liu, Dolan-Gavitt and Garg 2018, "Fine-pruning: defending
against backdooring attacks on deep neural networks").

Channels of the last convolution that clean pictures hardly activate are pruned,
as a backdoor may use them; then the model is trained on clean pictures.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from babam_jax.defenses.base import Context, Need, Repair
from babam_jax.defenses.fine_tuning import fine_tune
from babam_jax.models import networks
from babam_jax.settings import refuse, setting
from babam_jax.training.classifier import NetworkClassifier, masked
from babam_jax.training.recognition import RecognitionSettings

_STEP = 0.01  # the share of the channels pruned at a time


def order(
  features: Float[np.ndarray, 'n d'], channels: int
) -> Int[np.ndarray, ' c']:
  """The channels in order of their mean activation on clean pictures.

  Args:
    features: maps of the last convolution, flattened, the channel last.
    channels: the number of channels.
  """
  mean = features.reshape(-1, channels).mean(0)
  return np.argsort(mean, kind='stable')


def prune(
  features: Float[np.ndarray, 'n d'],
  channels: int,
  accuracy: Callable[[Float[np.ndarray, ' c']], float],
  *,
  largest_drop: float,
) -> Float[np.ndarray, ' c']:
  """Prunes channels as long as the accuracy allows.

  Args:
    features: as in `order`.
    channels: as in `order`.
    accuracy: gives the model's accuracy on trusted pictures with a mask.
    largest_drop: the largest drop of that accuracy, as a share of it.

  Returns:
    The last mask within the limit: 0 for a channel that is pruned, else 1.
  """
  least_first = order(features, channels)
  kept = np.ones(channels, np.float32)
  limit = accuracy(kept) * (1 - largest_drop)
  for share in np.arange(_STEP, 1, _STEP):
    mask = np.ones(channels, np.float32)
    mask[least_first[: round(share * channels)]] = 0
    if accuracy(mask) < limit:
      break
    kept = mask
  return kept


@dataclasses.dataclass(frozen=True)
class FinePruning(Repair):
  """Prunes channels that clean pictures hardly activate, then fine-tunes."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUSTED})

  largest_drop: float = setting(
    0.1,
    'The most accuracy on trusted pictures that pruning may cost, as a share '
    'of it.',
    at_least=0,
    at_most=1,
  )
  epochs: int = setting(
    10, 'Epochs of training on trusted pictures after pruning.', at_least=1
  )

  def check(self, path: str, recognizer: RecognitionSettings) -> None:
    """The last convolution can be pruned only where it does not train."""
    super().check(path, recognizer)
    if recognizer.frozen == 'none':
      refuse(
        'recognizer.frozen',
        'none',
        "'trunk' or 'all_but_last': the last convolution is pruned",
      )

  def repair(
    self, context: Context, classifier: NetworkClassifier
  ) -> tuple[NetworkClassifier, dict[str, Any]]:
    """The pruned model, and the number of pruned channels."""
    recognition, trusted = context.recognition, context.trusted
    model = recognition.settings.model
    channels = networks.ARCHITECTURES[model].channels
    features = recognition.inputs(trusted)

    def accuracy(mask: Float[np.ndarray, ' c']) -> float:
      context.meter.count(len(trusted), beforehand=True)
      found = classifier.predict_inputs(masked(features, mask))
      return float(np.mean(found.argmax(1) == trusted.labels))

    mask = prune(features, channels, accuracy, largest_drop=self.largest_drop)
    variables = fine_tune(
      context,
      classifier,
      masked(features, mask),
      epochs=self.epochs,
      title='fine-pruning',
    )
    repaired = NetworkClassifier(
      recognition, variables, classifier.num_classes, mask
    )
    pruned = int((mask == 0).sum())
    return repaired, {'pruned_channels': pruned, 'channels': channels}
