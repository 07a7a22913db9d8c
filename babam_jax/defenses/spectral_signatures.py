"""Spectral Signatures (Tran, Li and Madry 2018, algorithm 1).

Within a class, poison has large components along the first singular vector of
the centered activations.
"""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int32

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Need, Verdict
from babam_jax.settings import setting

_MARGIN = 1.5  # the paper removes 1.5 times as many as it expects
_MOST = 0.5  # share of a class; above, the paper's assumptions fail


def detect(
  activations: Float[np.ndarray, 'n d'],
  labels: Int32[np.ndarray, ' n'],
  *,
  expected_share: float,
) -> Verdict:
  """Judges training pictures.

  Args:
    activations: those of the last hidden layer.
    labels: the training labels.
    expected_share: an upper bound of the poison in any one class; 1.5 times
      as many are flagged in each class, half of it at most.
  """
  scores = np.zeros(len(labels))
  flags = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    centered = activations[rows] - activations[rows].mean(0)
    direction = np.linalg.svd(centered, full_matrices=False)[2][0]
    scores[rows] = (centered @ direction) ** 2
    count = round(min(_MARGIN * expected_share, _MOST) * len(rows))
    flags[rows[np.argsort(-scores[rows], kind='stable')[:count]]] = True
  return Verdict(scores, flags)


@dataclasses.dataclass(frozen=True)
class SpectralSignatures(Detector):
  """Flags pictures far out along the first singular vector of their class."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.MODEL})

  expected_share: float = setting(
    0.1,
    'The most poison that is expected in a class, as a share of it; 1.5 times '
    'as much is flagged.',
    at_least=0,
    at_most=1,
  )

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Judges by the activations of the last hidden layer."""
    return detect(
      context.activations(pictures),
      pictures.labels,
      expected_share=self.expected_share,
    )
