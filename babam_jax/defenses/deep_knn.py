"""Deep k-NN (Peri et al. 2020, "Deep k-NN defense against clean-label data
poisoning attacks"): a picture whose neighbors in feature space have another
label is poison."""

import numpy as np
from jaxtyping import Float, Int32
from sklearn.neighbors import NearestNeighbors

from babam_jax.defenses.suspect import Verdict


def detect(
  activations: Float[np.ndarray, 'n d'],
  labels: Int32[np.ndarray, ' n'],
  *,
  neighbors: int,
) -> Verdict:
  """Judges training pictures.

  A label's votes are divided by its number of pictures, without which the
  larger class would win everywhere: the paper's classes are of equal size.

  Args:
    activations: of the last hidden layer.
    labels: as they were trained.
    neighbors: how many vote; the paper has twice the expected poison.

  Returns:
    Scores from -1 to 1: the share of votes for the strongest other label less
    that for the picture's own. Flagged is what lost.
  """
  count = min(neighbors, len(labels) - 1)
  tree = NearestNeighbors(n_neighbors=count).fit(activations)
  nearest = tree.kneighbors(return_distance=False)  # without itself
  classes = labels.max() + 1
  sizes = np.maximum(np.bincount(labels, minlength=classes), 1)
  votes = np.stack(
    [np.bincount(labels[row], minlength=classes) for row in nearest]
  )
  shares = votes / sizes
  shares /= shares.sum(1, keepdims=True)
  every = np.arange(len(labels))
  own = shares[every, labels].copy()
  shares[every, labels] = -1
  scores = shares.max(1) - own if classes > 1 else np.zeros(len(labels))
  return Verdict(scores, scores > 0)
