"""Whether most of a folder scores like the pictures of which a rate was
measured.

Poison is a small part of a folder (a tenth moves the result little); the lower
half of its scores is of clean pictures. If that half lies higher than it
should, so does the upper half of the clean ones, and more of them are flagged
than the rate says.
"""

import numpy as np
from jaxtyping import Float

FEWEST = 50  # pictures, of which the lower half says enough
_FEWEST_CLEAN = 100
_LOWER, _MIDDLE = 0.1, 0.5  # quantiles that poison does not move far
_LIMIT = 16.0  # log-odds
_BINS = 1600


def _log_odds(score: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
  score = np.asarray(score, np.float64)
  with np.errstate(divide='ignore'):
    found = np.log(score) - np.log1p(-score)
  return np.clip(found, -_LIMIT, _LIMIT)


class Scores:
  """The scores of a folder, in memory that does not grow with them."""

  def __init__(self):
    self._counts = np.zeros(_BINS, int)

  def add(self, score: float) -> None:
    """Counts a score."""
    place = (_log_odds(np.array([score]))[0] + _LIMIT) / (2 * _LIMIT)
    self._counts[min(int(place * _BINS), _BINS - 1)] += 1

  def expected_share(
    self, threshold: float, clean: Float[np.ndarray, ' n']
  ) -> float | None:
    """The share of clean pictures like these that scores above a threshold.

    The scores of clean pictures are moved and stretched, as log-odds, until
    their lower half lies where that of the folder lies.

    Args:
      threshold: pictures with a higher score are flagged.
      clean: the scores of the clean pictures of which the rate was measured.

    Returns:
      The share; None if there are too few pictures on one side to tell.
    """
    if self._counts.sum() < FEWEST or len(clean) < _FEWEST_CLEAN:
      return None
    stored = _log_odds(clean)
    low, middle = np.quantile(stored, (_LOWER, _MIDDLE))
    if middle <= low:
      return None
    stretch = (self._quantile(_MIDDLE) - self._quantile(_LOWER)) / (
      middle - low
    )
    moved = self._quantile(_MIDDLE) + stretch * (stored - middle)
    limit = _log_odds(np.array([threshold]))[0]
    return float((moved > limit).mean())

  def _quantile(self, share: float) -> float:
    """By linear interpolation within the bin, in log-odds."""
    total = np.concatenate([[0], np.cumsum(self._counts)])
    edges = np.linspace(-_LIMIT, _LIMIT, _BINS + 1)
    # Bins without scores make no step.
    kept = np.concatenate([[True], self._counts > 0])
    return float(np.interp(share * total[-1], total[kept], edges[kept]))
