"""Intervals and curves."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

_Z95 = stats.norm.ppf(0.975)


def wilson_interval(rate: float, count: int) -> tuple[float, float]:
  """Wilson's 95 % interval of a rate.

  Args:
    rate: a fraction in [0, 1].
    count: the number of independent trials behind it.
  """
  if count == 0:
    return 0.0, 1.0
  z2 = _Z95**2 / count
  center = (rate + z2 / 2) / (1 + z2)
  half = np.sqrt(rate * (1 - rate) * z2 + z2**2 / 4) / (1 + z2)
  return max(0.0, float(center - half)), min(1.0, float(center + half))


def auroc(
  scores: Float[np.ndarray, ' n'], positive: Bool[np.ndarray, ' n']
) -> float:
  """Area under the ROC curve; ties count half. NaN if a class is empty."""
  positives, negatives = positive.sum(), (~positive).sum()
  if not positives or not negatives:
    return float('nan')
  ranks = stats.rankdata(scores)
  above = ranks[positive].sum() - positives * (positives + 1) / 2
  return float(above / (positives * negatives))


def roc_curve(
  scores: Float[np.ndarray, ' n'], positive: Bool[np.ndarray, ' n']
) -> tuple[Float[np.ndarray, ' m'], Float[np.ndarray, ' m']]:
  """False and true positive rates over all thresholds, from (0, 0) on."""
  order = np.argsort(-scores, kind='stable')
  hits, last = positive[order], np.append(np.diff(scores[order]) != 0, True)
  tpr = np.cumsum(hits)[last] / max(1, positive.sum())
  fpr = np.cumsum(~hits)[last] / max(1, (~positive).sum())
  return np.append(0, fpr), np.append(0, tpr)
