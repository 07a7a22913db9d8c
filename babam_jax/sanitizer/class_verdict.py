"""Whether a class holds poison, from how many of its pictures are flagged.

An attacker makes many poisons for one victim. A single flag may be false; a
class with too many of them stands out. So does one in which too many pictures
score higher than most clean ones do, though none of them is flagged.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

NAMED = 0.001  # a class with a lower p-value, corrected, is named
# Where a quarter of many classes has flags like one in twenty clean ones, it is
# the pictures that are different, not an attacker who has one victim.
_UNLIKELY, _SPREAD, _FEWEST = 0.05, 0.25, 8
_CONFIDENCE = 0.95
_LOWER = (0.05, 0.2)  # shares of clean pictures above further thresholds


class Level(NamedTuple):
  """A threshold at which the pictures of a class are counted.

  Attributes:
    threshold: pictures with a higher score are counted.
    rate: the share of clean pictures that are, at most.
  """

  threshold: float
  rate: float


def levels(threshold: float, clean: Float[np.ndarray, ' n']) -> list[Level]:
  """The threshold of flags, and lower ones.

  Args:
    threshold: pictures with a higher score are flagged.
    clean: the scores of clean pictures, from low to high; without any there are
      no levels.
  """
  rate = highest_rate(threshold, clean)
  if rate is None:
    return []
  found = [Level(threshold, rate)]
  for share in _LOWER:
    lower = float(np.quantile(clean, 1 - share))
    bound = highest_rate(lower, clean)
    if bound is not None and found[-1].rate < bound < 1:
      found.append(Level(lower, bound))
  return found


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


class Verdicts(NamedTuple):
  """What is said of the classes of a folder.

  Attributes:
    p_values: for each class the probability that a clean one has as many
      pictures above one of the levels.
    rate_holds: whether the measured rate can be that of these pictures.
  """

  p_values: Float[np.ndarray, ' c']
  rate_holds: bool


def judge(
  above: Int[np.ndarray, 'c l'],
  judged: Int[np.ndarray, ' c'],
  known: Sequence[Level],
  doubted: bool = False,
) -> Verdicts:
  """Judges all classes of a folder.

  Args:
    above: how many pictures of each class score above each level.
    judged: how many have a score.
    known: the levels; the first is that of the flags.
    doubted: whether the folder's scores say that its pictures are unlike those
      of which the rates were measured.
  """
  flags = p_values(above[:, 0], judged, known[0].rate)
  holds = rate_holds(flags)
  if doubted or not holds:
    flags = beside_the_others(above[:, 0], judged, known[0].rate)
  found = [flags]
  # Other pictures than those of which the rates were measured reach the lower
  # levels first: there a class must stand out among the others.
  lower = enumerate(known[1:], 1) if len(judged) > 1 else ()
  for i, level in lower:
    found.append(beside_the_others(above[:, i], judged, level.rate))
  smallest = np.minimum(1, len(found) * np.min(found, axis=0))
  return Verdicts(smallest, holds)


def p_values(
  above: Int[np.ndarray, ' c'], judged: Int[np.ndarray, ' c'], rate: float
) -> Float[np.ndarray, ' c']:
  """The probability of so many pictures above a level, or more, in classes of
  clean pictures (binomial).

  Args:
    above: how many pictures of each class are.
    judged: how many have a score.
    rate: the share of clean pictures that are.
  """
  return stats.binom.sf(above - 1, judged, rate)


def beside_the_others(
  above: Int[np.ndarray, ' c'], judged: Int[np.ndarray, ' c'], rate: float
) -> Float[np.ndarray, ' c']:
  """The same, where the folder's pictures are unlike those of which the rate
  was measured: beside the other classes, with their share and with its spread
  (beta-binomial).

  Args:
    above: how many pictures of each class are above the level.
    judged: how many have a score.
    rate: the share of clean pictures that are, at least.
  """
  others = np.maximum(judged.sum() - judged, 1)
  share = np.clip((above.sum() - above) / others, rate, 0.999)
  variance = np.maximum(judged, 1) * share * (1 - share)
  excess = (above - judged * share) ** 2 / variance
  # Pearson's dispersion of the others, by the method of moments.
  spread = (excess.sum() - excess) / max(1, len(judged) - 2)
  alike = np.clip((spread - 1) / max(1.0, judged.mean() - 1), 1e-6, 0.95)
  parts = share * (1 - alike) / alike, (1 - share) * (1 - alike) / alike
  return stats.betabinom.sf(above - 1, judged, *parts)


def named(found: Float[np.ndarray, ' c']) -> Bool[np.ndarray, ' c']:
  """Which classes are named: those whose p-value is below `NAMED` after Holm's
  correction for the number of classes.

  Args:
    found: the p-values of all classes.
  """
  order = np.argsort(found, kind='stable')
  levels = NAMED / np.arange(len(found), 0, -1)
  result = np.zeros(len(found), bool)
  result[order] = np.logical_and.accumulate(found[order] < levels)
  return result


def rate_holds(found: Float[np.ndarray, ' c']) -> bool:
  """Whether the measured rate can be that of these pictures: False if flags are
  spread over the classes of a folder, as no attack on one victim spreads them.

  Args:
    found: the p-values of all classes; few of them tell nothing.
  """
  if len(found) < _FEWEST:
    return True
  return bool((found < _UNLIKELY).mean() <= _SPREAD)
