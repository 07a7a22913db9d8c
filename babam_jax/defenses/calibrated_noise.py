"""Algorithm 1 as a treatment: Laplacian noise on flagged pictures."""

import dataclasses

from babam_jax.data.examples import Examples
from babam_jax.defenses import babam, noise
from babam_jax.defenses.base import Treatment, Verdict
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class CalibratedNoise(Treatment):
  """Noise calibrated to a picture's place in its class (Algorithm 2, lines 4
  to 9)."""

  epsilon: float = setting(
    0.01,
    'The noise budget; the noise scale is sensitivity / epsilon gray levels.',
    at_least=noise.SMALLEST_EPSILON,
  )
  mode: str = setting(
    'laplace',
    "'laplace' (additive), or 'released' (the released script's arithmetic).",
    choices=noise.MODES,
  )
  distance: str = setting(
    'squared',
    "Distance to the class's mean image; 'constant' sets every sensitivity "
    "to 1: noise without Algorithm 1's calibration.",
    choices=noise.DISTANCES,
  )

  def treat(self, examples: Examples, verdict: Verdict, seed: int) -> Examples:
    """Adds the noise; order, ids and labels are kept."""
    return babam.treat(
      examples,
      verdict.flags,
      epsilon=self.epsilon,
      distance=self.distance,
      mode=self.mode,
      seed=seed,
    )
