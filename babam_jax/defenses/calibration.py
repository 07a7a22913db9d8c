"""From a PIRM's evidence to a probability, and to a threshold.

A network that was trained for long is overconfident. Two numbers, fitted on
pictures held out (Platt 1999), make its score a probability; the scores of
clean pictures held out give the false-positive rate of a threshold.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from babam_jax import errors, invocation
from babam_jax.defenses import grain

DEFAULT_FPR = 0.01
UNCALIBRATED = 0.5  # the threshold of a PIRM without stored clean scores

_PULL = 5e5  # the weight of the data against the pull toward 0


class Calibration(NamedTuple):
  """How to read a PIRM's evidence.

  Attributes:
    slope: the slope of the log-odds of poison over the evidence.
    offset: the log-odds of poison at evidence 0.
    clean: scores of clean pictures held out, from low to high; there may be
      none.
    strata: the evidence of clean pictures over their grain; None: evidence is
      read as it is.
  """

  slope: float = 1.0
  offset: float = 0.0
  clean: Float[np.ndarray, ' n'] = np.zeros(0)
  strata: grain.Strata | None = None


def probability(
  calibration: Calibration, evidence: Float[np.ndarray, ' n']
) -> Float[np.ndarray, ' n']:
  """The probability of poison, if the share of poisoned pictures is the same
  as in those held out."""
  evidence = np.asarray(evidence, np.float64)
  return special.expit(calibration.slope * evidence + calibration.offset)


def fit(
  evidence: Float[np.ndarray, ' n'], poisoned: Bool[np.ndarray, ' n']
) -> tuple[float, float]:
  """Slope and offset of the largest likelihood.

  Args:
    evidence: that of pictures that did not train the PIRM.
    poisoned: the ground truth, with both values in it.
  """
  # Only what trains a PIRM loads it, which takes most of a second.
  from sklearn import linear_model

  # Standardized, so that the search begins near its end.
  center, spread = float(np.mean(evidence)), float(np.std(evidence)) or 1.0
  scaled = (np.asarray(evidence, np.float64) - center) / spread
  # A faint pull toward 0: perfectly separated evidence has no best fit.
  model = linear_model.LogisticRegression(
    C=_PULL / len(scaled), solver='newton-cholesky', tol=1e-8
  )
  model.fit(scaled.reshape(-1, 1), poisoned)
  slope = np.asarray(model.coef_).item()
  offset = np.asarray(model.intercept_).item()
  return slope / spread, offset - slope * center / spread


class Threshold(NamedTuple):
  """A threshold, and why it was chosen.

  Attributes:
    value: pictures with a higher probability of poison are flagged.
    fpr: the false-positive rate that it follows from; None if the threshold
      was given, or the PIRM has no scores of clean pictures.
  """

  value: float
  fpr: float | None


def choose_threshold(
  calibration: Calibration,
  wanted: float | None,
  fpr: float | None,
  prefix: str = '--',
) -> Threshold:
  """The threshold that a user's choice leads to.

  Args:
    calibration: that of the PIRM.
    wanted: a threshold, or None.
    fpr: instead of a threshold, the share that may be flagged of the clean
      pictures held out when the PIRM was trained; or None. If both are None,
      it is `DEFAULT_FPR`; for a PIRM without their scores the threshold is
      `UNCALIBRATED`.
    prefix: what stands before the two names in messages.

  Raises:
    UserError: both are given, one is out of its range, or the PIRM has too few
      scores of clean pictures for such a rate.
  """
  for name, found in (('threshold', wanted), ('fpr', fpr)):
    is_number = isinstance(found, int | float | np.number)
    # Nor is NaN allowed.
    if found is not None and not (is_number and 0 <= found <= 1):
      raise errors.UserError(
        f'{prefix}{name}: found {found!r}, expected a fraction from 0 to 1.'
      )
  if wanted is not None:
    if fpr is not None:
      raise errors.UserError(
        f'{prefix}fpr: found beside {prefix}threshold; expected one of them. '
        'Leave one out.'
      )
    return Threshold(wanted, None)
  if fpr is None:
    if not len(calibration.clean):
      return Threshold(UNCALIBRATED, None)
    fpr = DEFAULT_FPR
  return Threshold(threshold(calibration, fpr, prefix), fpr)


def threshold(
  calibration: Calibration, fpr: float, prefix: str = '--'
) -> float:
  """The lowest threshold that keeps a rate for clean pictures to come.

  Of n clean pictures held out and a further one, all in random order, the
  further one is flagged with a probability of at most `fpr` if at most
  fpr (n + 1) - 1 of the n score as high (conformal prediction: Vovk et al.
  2005).

  Args:
    calibration: that of the PIRM.
    fpr: the rate, above 0 and below 1.
    prefix: what stands before `fpr` in messages.

  Raises:
    UserError: there are no such pictures, or too few for the rate.
  """
  count = len(calibration.clean)
  if count == 0:
    raise errors.UserError(
      f'{prefix}fpr: the PIRM has no scores of clean pictures; expected one '
      f'that `{invocation.line("pirm")}` has trained. Give {prefix}threshold '
      'instead.'
    )
  place = int(fpr * (count + 1))  # from the highest
  if not 1 <= place <= count:
    raise errors.UserError(
      f'{prefix}fpr: found {fpr}, expected {1 / (count + 1):.2g} to '
      f'{1 - 1 / (count + 1):.6g}: there are the scores of {count} clean '
      'pictures. Choose another one, or use more pictures.'
    )
  return float(calibration.clean[count - place])


class Bin(NamedTuple):
  """Pictures with similar scores.

  Attributes:
    score: their mean score.
    poisoned: the share of them that is poisoned.
    count: the number of pictures.
  """

  score: float
  poisoned: float
  count: int


def reliability(
  scores: Float[np.ndarray, ' n'],
  poisoned: Bool[np.ndarray, ' n'],
  bins: int = 10,
) -> list[Bin]:
  """Scores beside the truth, in bins of equal width; empty bins are left out.

  If the scores are probabilities, both are equal in each bin.
  """
  place = np.minimum((scores * bins).astype(int), bins - 1)
  return [
    Bin(float(scores[here].mean()), float(poisoned[here].mean()), int(n))
    for b in range(bins)
    if (n := (here := place == b).sum())
  ]


def calibration_error(found: list[Bin]) -> float:
  """The mean distance between score and truth (ECE)."""
  total = sum(b.count for b in found)
  return sum(b.count * abs(b.score - b.poisoned) for b in found) / total
