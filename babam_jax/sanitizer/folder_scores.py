"""The scores of all pictures of a folder, class by class."""

import array
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

_LIMIT = 16.0  # log-odds


def log_odds(score: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
  """The log-odds of probabilities, at most 16 on either side."""
  score = np.asarray(score, np.float64)
  with np.errstate(divide='ignore'):
    found = np.log(score) - np.log1p(-score)
  return np.clip(found, -_LIMIT, _LIMIT)


class FolderScores:
  """The scores of a folder's classes: eight bytes a picture, besides names.

  Attributes:
    names: of the classes, printable.
  """

  def __init__(self):
    self.names: list[str] = []
    self._values = array.array('d')
    self._ends = array.array('q')

  def add(self, name: str, scores: Iterable[float]) -> None:
    """Adds those of the next class."""
    self.names.append(name)
    self._values.extend(scores)
    self._ends.append(len(self._values))

  @property
  def values(self) -> Float[np.ndarray, ' n']:
    """All scores."""
    return np.array(self._values, np.float64)

  @property
  def sizes(self) -> Int[np.ndarray, ' c']:
    """The number of scores of each class."""
    return np.diff(np.array(self._ends, np.int64), prepend=0)

  @property
  def classes(self) -> Int[np.ndarray, ' n']:
    """The number of the class of each score."""
    return np.repeat(np.arange(len(self._ends)), self.sizes)

  def quantiles(self, *shares: float) -> Float[np.ndarray, 's c']:
    """Quantiles of each class's scores, as log-odds; NaN without scores."""
    values, sizes = log_odds(self.values), self.sizes
    ordered = values[np.lexsort((values, self.classes))]
    found = np.full((len(shares), len(sizes)), np.nan)
    here = sizes > 0
    first, last = (np.cumsum(sizes) - sizes)[here], sizes[here] - 1
    place = np.multiply.outer(shares, last)
    below = np.floor(place).astype(int)
    low = ordered[first + below]
    high = ordered[first + np.minimum(below + 1, last)]
    found[:, here] = low + (place - below) * (high - low)
    return found

  def above(self, threshold: float) -> Int[np.ndarray, ' c']:
    """How many scores of each class are higher than a threshold."""
    high = self.classes[self.values > threshold]
    return np.bincount(high, minlength=len(self._ends))
