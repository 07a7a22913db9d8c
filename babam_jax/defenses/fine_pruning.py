"""Fine-Pruning (Liu, Dolan-Gavitt and Garg 2018, "Fine-pruning: defending
against backdooring attacks on deep neural networks").

Channels of the last convolution that sleep on clean pictures are cut, as a
backdoor may live in them; then the model is trained on clean pictures.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

_STEP = 0.01  # of the channels, cut at a time


def order(
  features: Float[np.ndarray, 'n d'], channels: int
) -> Int[np.ndarray, ' c']:
  """The channels by their mean activation on clean pictures, least first.

  Args:
    features: maps of the last convolution, flattened, the channel last.
    channels: how many there are.
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
  """Cuts channels as long as the accuracy allows.

  Args:
    features: as in `order`.
    channels: as in `order`.
    accuracy: of the model on trusted pictures behind a mask of the channels.
    largest_drop: of the accuracy, as a share of what it was.

  Returns:
    The last mask within the limit: 0 for a channel that is cut, else 1.
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


def masked(
  features: Float[np.ndarray, 'n d'], mask: Float[np.ndarray, ' c']
) -> Float[np.ndarray, 'n d']:
  """Features without the channels that are cut."""
  maps = features.reshape(len(features), -1, len(mask)) * mask
  return maps.reshape(features.shape)
