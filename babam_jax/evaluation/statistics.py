"""Intervals and curves.

scikit-learn takes most of a second to load, so what needs it loads it.
"""

import warnings

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

_Z95 = special.ndtri(0.975)


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
  if positive.all() or not positive.any():
    return float('nan')
  from sklearn import metrics

  return float(metrics.roc_auc_score(positive, scores))


def roc_curve(
  scores: Float[np.ndarray, ' n'], positive: Bool[np.ndarray, ' n']
) -> tuple[Float[np.ndarray, ' m'], Float[np.ndarray, ' m']]:
  """False and true positive rates over all thresholds, from (0, 0) on.

  The rate of an empty class is 0 everywhere.
  """
  from sklearn import exceptions, metrics

  with warnings.catch_warnings():
    warnings.simplefilter('ignore', exceptions.UndefinedMetricWarning)
    fpr, tpr, _ = metrics.roc_curve(
      positive, scores, pos_label=True, drop_intermediate=False
    )
  return np.nan_to_num(fpr), np.nan_to_num(tpr)
