"""Activation Clustering (Chen et al. 2018, "Detecting backdoor attacks on deep
neural networks by activation clustering", algorithm 2, relative size).

The activations of each class's training pictures in the last hidden layer of a
model trained on them are divided into two clusters; a small one is flagged.
"""

import dataclasses
import warnings
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int32

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Need, Verdict
from babam_jax.settings import setting

_FEWEST = 4  # pictures that a class must have
_LEAST_VARIANCE = 1e-6  # least of a component, as a share of the first's


def detect(
  activations: Float[np.ndarray, 'n d'],
  labels: Int32[np.ndarray, ' n'],
  *,
  dimensions: int,
  largest_share: float,
  seed: int,
) -> Verdict:
  """Judges training pictures.

  Args:
    activations: those of the last hidden layer.
    labels: the training labels.
    dimensions: independent components that are kept; the paper has 10.
    largest_share: the largest share of a class that is flagged. The paper
      expects up to 33 % of poison.
    seed: the seed of the decomposition and the clusters.

  Returns:
    Scores from -1 to 1: how much nearer a picture is to the center of the
    smaller cluster than to that of the larger one.
  """
  from sklearn import cluster  # loaded where it is needed: it takes long

  scores = np.zeros(len(labels))
  flags = np.zeros(len(labels), bool)
  state = seeds.child_seed(seed, 'activation clustering') % 2**32
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    if len(rows) < _FEWEST:
      continue
    components = _components(activations[rows], dimensions, state)
    if components is None:
      continue
    means = cluster.KMeans(2, random_state=state).set_params(n_init=10)
    places = means.fit_predict(components)
    distances = means.transform(components)
    smaller = np.bincount(places, minlength=2).argmin()
    small, large = distances[:, smaller], distances[:, 1 - smaller]
    scores[rows] = (large - small) / np.maximum(large + small, 1e-12)
    members = places == smaller
    flags[rows] = members & (members.mean() < largest_share)
  return Verdict(scores, flags)


def _components(
  activations: Float[np.ndarray, 'n d'], dimensions: int, state: int
) -> Float[np.ndarray, 'n k'] | None:
  """Independent components; None where all activations are the same."""
  if not np.ptp(activations, axis=0).any():
    return None
  from sklearn import decomposition, exceptions

  largest = min(dimensions, len(activations) - 1, activations.shape[1])
  principal = decomposition.PCA(largest, svd_solver='full')
  reduced = principal.fit_transform(activations.astype(np.float64))
  # Whitening would divide by the variance of directions that have none.
  variance = principal.explained_variance_
  count = int((variance > _LEAST_VARIANCE * variance[0]).sum())
  ica = decomposition.FastICA(
    count, whiten='unit-variance', random_state=state, max_iter=1000, tol=0.01
  )
  with warnings.catch_warnings():
    # An unfinished rotation spans the same space; its clusters are as good.
    warnings.simplefilter('ignore', exceptions.ConvergenceWarning)
    return ica.fit_transform(reduced[:, :count])


@dataclasses.dataclass(frozen=True)
class ActivationClustering(Detector):
  """Flags the smaller of two clusters of a class."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.MODEL})

  dimensions: int = setting(
    10, 'Independent components of the activations that are kept.', at_least=1
  )
  largest_share: float = setting(
    0.35,
    'The share of a class above which a cluster is not flagged.',
    at_least=0,
    at_most=1,
  )

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Judges by the activations of the last hidden layer."""
    return detect(
      context.activations(pictures),
      pictures.labels,
      dimensions=self.dimensions,
      largest_share=self.largest_share,
      seed=context.seed,
    )
