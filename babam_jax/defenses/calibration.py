"""From a PIRM's evidence to a probability, and to a threshold.

A network that has learned for long is too sure of itself. Two numbers, fitted
on pictures held out (Platt 1999), make its score a probability; the scores of
clean pictures held out say what a threshold costs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special
from sklearn import linear_model

from babam_jax import errors

_PULL = 5e5  # the strength of the data against the pull towards 0


class Calibration(NamedTuple):
  """How to read a PIRM's evidence.

  Attributes:
    slope: of the log-odds of poison over the evidence.
    offset: those log-odds where there is no evidence.
    clean: scores of clean pictures held out, from low to high; there may be
      none.
  """

  slope: float = 1.0
  offset: float = 0.0
  clean: Float[np.ndarray, ' n'] = np.zeros(0)


def probability(
  calibration: Calibration, evidence: Float[np.ndarray, ' n']
) -> Float[np.ndarray, ' n']:
  """The probability of poison; it holds where as many pictures are poisoned
  as in those held out."""
  evidence = np.asarray(evidence, np.float64)
  return special.expit(calibration.slope * evidence + calibration.offset)


def fit(
  evidence: Float[np.ndarray, ' n'], poisoned: Bool[np.ndarray, ' n']
) -> tuple[float, float]:
  """Slope and offset of the largest likelihood.

  Args:
    evidence: of pictures that did not train the PIRM.
    poisoned: the truth about them; some are, some are not.
  """
  # Standardized, so that the search begins near its end.
  center, spread = float(np.mean(evidence)), float(np.std(evidence)) or 1.0
  scaled = (np.asarray(evidence, np.float64) - center) / spread
  # A faint pull towards 0: evidence that divides perfectly has no best fit.
  model = linear_model.LogisticRegression(
    C=_PULL / len(scaled), solver='newton-cholesky', tol=1e-8
  )
  model.fit(scaled[:, None], poisoned)
  slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
  return slope / spread, offset - slope * center / spread


def threshold(calibration: Calibration, fpr: float) -> float:
  """The lowest threshold above which at most a share of `fpr` of the clean
  pictures held out lies.

  Raises:
    UserError: there are none, or too few for so low a rate.
  """
  count = len(calibration.clean)
  if count == 0:
    raise errors.UserError(
      '--fpr: the PIRM has no scores of clean pictures; expected one that '
      'launch.pirm has trained. Give --threshold instead.'
    )
  allowed = int(fpr * count)  # above the threshold
  if allowed < 1 or allowed >= count:
    raise errors.UserError(
      f'--fpr: found {fpr}, expected {1 / count:.2g} to {1 - 1 / count:.6g}: '
      f'the PIRM has the scores of {count} clean pictures. Choose another one.'
    )
  return float(calibration.clean[count - 1 - allowed])


class Bin(NamedTuple):
  """Pictures with similar scores.

  Attributes:
    score: their mean score.
    poisoned: the share of them that is poisoned.
    count: how many there are.
  """

  score: float
  poisoned: float
  count: int


def reliability(
  scores: Float[np.ndarray, ' n'],
  poisoned: Bool[np.ndarray, ' n'],
  bins: int = 10,
) -> list[Bin]:
  """Scores beside the truth, in bins of equal width; empty ones are left out.

  Of a probability, both are the same in each bin.
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
