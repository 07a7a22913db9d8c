"""Deep k-NN (Peri et al. 2020, "Deep k-NN defense against clean-label data
poisoning attacks"): a picture whose neighbors in feature space have another
label is poison."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int32

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Need, Verdict
from babam_jax.settings import setting


def detect(
  activations: Float[np.ndarray, 'n d'],
  labels: Int32[np.ndarray, ' n'],
  *,
  neighbors: int,
) -> Verdict:
  """Judges training pictures.

  A label's votes are divided by its number of pictures; otherwise the larger
  class would win everywhere. The paper's classes are of equal size.

  Args:
    activations: those of the last hidden layer.
    labels: the training labels.
    neighbors: how many vote; the paper takes twice the expected poisons.

  Returns:
    Scores from -1 to 1: the share of votes for the strongest other label less
    that for the picture's own. Pictures whose own label loses are flagged.
  """
  from sklearn import neighbors as nearby  # here, as it takes long to load

  count = min(neighbors, len(labels) - 1)
  tree = nearby.NearestNeighbors(n_neighbors=count).fit(activations)
  nearest = tree.kneighbors(return_distance=False)  # none is its own
  classes = labels.max() + 1
  sizes = np.maximum(np.bincount(labels, minlength=classes), 1)
  votes = np.stack(
    [np.bincount(labels[row], minlength=classes) for row in nearest]
  )
  shares = votes / sizes
  shares /= shares.sum(1, keepdims=True)
  every = np.arange(len(labels))
  own = shares[every, labels].copy()
  shares[every, labels] = 0
  scores = shares.max(1) - own
  return Verdict(scores, scores > 0)


@dataclasses.dataclass(frozen=True)
class DeepKnn(Detector):
  """Flags pictures whose neighbors vote for another label."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.MODEL})

  neighbors: int = setting(
    50,
    'How many neighbors vote; the paper takes twice the expected poisons.',
    at_least=1,
  )

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Judges by the activations of the last hidden layer."""
    return detect(
      context.activations(pictures), pictures.labels, neighbors=self.neighbors
    )
