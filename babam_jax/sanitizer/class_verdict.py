"""Whether a class holds poison, from the scores of its pictures.

An attacker makes many poisons for one victim. A single flag may be false; a
class with too many of them stands out. So does one whose scores lie higher than
those of all other classes, though none of its pictures is flagged: poison of a
kind that a PIRM hardly knows still scores higher than clean pictures beside it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from babam_jax.sanitizer.folder_scores import FolderScores, log_odds

NAMED = 0.01  # a class with a lower p-value, corrected, is named
# Where a quarter of many classes has flags like one in twenty clean ones, it is
# the pictures that are different, not an attacker who has one victim.
_UNLIKELY, _SPREAD, _FEWEST = 0.05, 0.25, 8
_CONFIDENCE = 0.95
# Of each class's scores: poison may be most of them, or few.
_QUANTILES = (0.5, 0.9)
_FEWEST_CLASSES, _FEWEST_SCORES = 5, 5
_MOST = 0.25  # of the classes may stand out
_LEAST_SPREAD = 0.25  # of a quantile over clean classes, in log-odds
_QUARTILES = 1.349  # how far apart they are, in normal deviations


def highest_rate(threshold: float, clean: Float[np.ndarray, ' n']) -> float:
  """The upper bound, with 95 % confidence, of the share of clean pictures that
  score above a threshold (Clopper and Pearson 1934).

  Args:
    threshold: pictures with a higher score are flagged.
    clean: the scores of clean pictures, one or more.
  """
  above = int((clean > threshold).sum())
  if above == len(clean):
    return 1.0
  return float(special.betaincinv(above + 1, len(clean) - above, _CONFIDENCE))


class Verdicts(NamedTuple):
  """What is said of the classes of a folder.

  Attributes:
    p_values: for each class the probability that a clean one has so many flags,
      or so high scores.
    rate_holds: whether the measured rate can be that of these pictures.
  """

  p_values: Float[np.ndarray, ' c']
  rate_holds: bool


def judge(
  scores: FolderScores,
  threshold: float,
  rate: float,
  ordinary: float,
  doubted: bool = False,
) -> Verdicts:
  """Judges all classes of a folder.

  Args:
    scores: those of all its classes.
    threshold: pictures with a higher score are flagged.
    rate: the share of clean pictures that are, at most.
    ordinary: a score that is usual for clean pictures of some kinds.
    doubted: whether the folder's scores say that its pictures are unlike those
      of which the rate was measured.
  """
  flagged, judged = scores.above(threshold), scores.sizes
  flags = p_values(flagged, judged, rate)
  holds = rate_holds(flags)
  if doubted or not holds:
    flags = beside_the_others(flagged, judged, rate)
  found = [flags]
  for share in _QUANTILES:
    higher = higher_than_the_others(scores, share, ordinary)
    if higher is not None:
      found.append(higher)
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
  return special.bdtrc(above - 1, judged, rate)


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
  from scipy import stats  # half a second, for folders that are unlike ours

  others = np.maximum(judged.sum() - judged, 1)
  share = np.clip((above.sum() - above) / others, rate, 0.999)
  variance = np.maximum(judged, 1) * share * (1 - share)
  excess = (above - judged * share) ** 2 / variance
  # Pearson's dispersion of the others, by the method of moments.
  spread = (excess.sum() - excess) / max(1, len(judged) - 2)
  alike = np.clip((spread - 1) / max(1.0, judged.mean() - 1), 1e-6, 0.95)
  parts = share * (1 - alike) / alike, (1 - share) * (1 - alike) / alike
  return stats.betabinom.sf(above - 1, judged, *parts)


def higher_than_the_others(
  scores: FolderScores, share: float, ordinary: float
) -> Float[np.ndarray, ' c'] | None:
  """The probability that a quantile of a class's scores lies so much higher
  than those of the others, if it is one of them.

  Honest classes differ, too: persons, cameras, light. How much, the other
  classes say (Student's t, in log-odds). Several poisoned classes must not hide
  each other: the highest are set aside one by one, and each is compared with
  what is left (the generalized extreme Studentized deviate of Rosner 1983).

  Args:
    scores: those of all classes.
    share: which quantile.
    ordinary: classes whose quantile is no higher than this score do not stand
      out, whatever the others are.

  Returns:
    1 for classes with too few scores, and for those that were not set aside;
    None if there are too few classes to tell.
  """
  found = np.ones(len(scores.sizes))
  (told,) = np.nonzero(scores.sizes >= _FEWEST_SCORES)
  if len(told) < _FEWEST_CLASSES:
    return None
  quantiles, low, high = scores.quantiles(share, 0.25, 0.75)[:, told]
  order = np.argsort(quantiles, kind='stable')  # the highest last
  told, quantiles = told[order], quantiles[order]
  # What chance does to the quantile of so few scores (normal within a class).
  within = np.median(high - low) / _QUARTILES
  density = np.exp(-(special.ndtri(share) ** 2) / 2) / np.sqrt(2 * np.pi)
  chance = share * (1 - share) * (within / density) ** 2 / scores.sizes[told]
  # Each of the highest beside all that are lower.
  aside = np.arange(len(told) - int(_MOST * len(told)), len(told))
  around = quantiles - quantiles.mean()  # sums lose fewer digits
  mean = np.cumsum(around)[aside - 1] / aside
  squares = np.cumsum(around**2)[aside - 1] - aside * mean**2
  spread = np.sqrt(np.maximum(squares, 0) / (aside - 1))
  spread = np.maximum(spread, _LEAST_SPREAD)
  deviation = np.sqrt(spread**2 * (1 + 1 / aside) + chance[aside])
  p_value = special.stdtr(aside - 1, (mean - around[aside]) / deviation)
  # A class that is higher than one that stands out does so, too.
  p_value = np.minimum.accumulate(p_value)
  limit = log_odds(np.array([ordinary]))[0]
  found[told[aside]] = np.where(quantiles[aside] > limit, p_value, 1)
  return found


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
