"""Spectral Signatures (Tran, Li and Madry 2018, algorithm 1).

Within a class, poison has large components along the first singular vector of
the centred activations.
"""

import numpy as np
from jaxtyping import Float, Int32
from sklearn import decomposition

from babam_jax import seeds
from babam_jax.baselines.suspect import Verdict

_MARGIN = 1.5  # the paper removes 1.5 times as many as it expects
_MOST = 0.5  # of a class; beyond it the paper's assumptions do not hold


def detect(
  activations: Float[np.ndarray, 'n d'],
  labels: Int32[np.ndarray, ' n'],
  *,
  expected_share: float,
  seed: int,
) -> Verdict:
  """Judges training pictures.

  Args:
    activations: of the last hidden layer.
    labels: as they were trained.
    expected_share: an upper bound of the poison in any one class; 1.5 times
      as many are flagged in each class, half of it at most.
    seed: of where the decomposition starts.
  """
  scores = np.zeros(len(labels))
  flags = np.zeros(len(labels), bool)
  state = seeds.child_seed(seed, 'spectral signatures') % 2**32
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    centred = activations[rows] - activations[rows].mean(0)
    first = decomposition.TruncatedSVD(
      1, algorithm='arpack', random_state=state
    )
    scores[rows] = first.fit_transform(centred)[:, 0] ** 2
    count = round(min(_MARGIN * expected_share, _MOST) * len(rows))
    flags[rows[np.argsort(-scores[rows], kind='stable')[:count]]] = True
  return Verdict(scores, flags)
