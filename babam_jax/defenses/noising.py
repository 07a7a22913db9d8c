"""Adds noise to the pictures that a verdict flags."""

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses import noise
from babam_jax.defenses.calibrated_noise import CalibratedNoise
from babam_jax.defenses.suspect import Verdict, check_judged


def sanitize(
  untrusted: Examples,
  verdict: Verdict,
  *,
  epsilon: float = 0.01,
  seed: int = 0,
) -> Examples:
  """Adds Algorithm 1's noise to flagged pictures; the others stay as they are.

  Args:
    untrusted: uint8 pictures of one size, with the labels that they came with.
    verdict: a detector's, on these pictures in this order.
    epsilon: the noise budget; a lower one gives more noise. The
      picture farthest from its class's mean gets a noise scale of 1 / epsilon
      gray levels.
    seed: the seed of the noise, which also depends on the picture's id.

  Returns:
    New examples; order, ids and labels are kept, and the input is not changed.

  Raises:
    UserError: the verdict is on another number of pictures, or epsilon is not
      above 0.
  """
  check_judged(untrusted, verdict)
  noise.check_epsilon(epsilon, 'epsilon')
  treatment = CalibratedNoise(epsilon)
  flags = np.asarray(verdict.flags, bool)
  return treatment.treat(untrusted, verdict._replace(flags=flags), seed)
