"""Whether a class holds poison, from how many of its pictures are flagged.

An attacker makes many poisons for one victim. A single flag may be false; a
class with too many of them stands out.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

NAMED = 0.001  # a class with a lower p-value, corrected, is named
# Where a quarter of many classes has flags like one in twenty clean ones, it is
# the pictures that are different, not an attacker who has one victim.
_UNLIKELY, _SPREAD, _FEWEST = 0.05, 0.25, 8
_CONFIDENCE = 0.95


def highest_rate(
  threshold: float, clean: Float[np.ndarray, ' n']
) -> float | None:
  """The upper bound, with 95 % confidence, of the share of clean pictures that
  score above a threshold (Clopper and Pearson 1934).

  Args:
    threshold: pictures with a higher score are flagged.
    clean: the scores of clean pictures; none: None is returned.
  """
  if not len(clean):
    return None
  above = int((clean > threshold).sum())
  if above == len(clean):
    return 1.0
  return float(stats.beta.ppf(_CONFIDENCE, above + 1, len(clean) - above))


def p_value(flagged: int, judged: int, rate: float) -> float:
  """The probability of so many flags, or more, in a class of clean pictures.

  Args:
    flagged: the number of pictures that are flagged.
    judged: the number of pictures that have a score.
    rate: the share of clean pictures that are flagged.
  """
  return float(stats.binom.sf(flagged - 1, judged, rate))


def named(p_values: Sequence[float]) -> Bool[np.ndarray, ' n']:
  """Which classes are named: those whose p-value is below `NAMED` after Holm's
  correction for the number of classes.

  Args:
    p_values: those of all classes.
  """
  found = np.asarray(p_values, np.float64)
  order = np.argsort(found, kind='stable')
  levels = NAMED / np.arange(len(found), 0, -1)
  result = np.zeros(len(found), bool)
  result[order] = np.logical_and.accumulate(found[order] < levels)
  return result


def rate_holds(p_values: Sequence[float]) -> bool:
  """Whether the measured rate can be that of these pictures: False if flags are
  spread over the classes of a folder, as no attack on one victim spreads them.

  Args:
    p_values: those of all classes; few of them tell nothing.
  """
  found = np.asarray(p_values, np.float64)
  if len(found) < _FEWEST:
    return True
  return bool((found < _UNLIKELY).mean() <= _SPREAD)
