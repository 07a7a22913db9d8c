"""Algorithm 2, lines 4 to 9: Algorithm 1's noise on flagged pictures."""

import dataclasses

import numpy as np
from jaxtyping import Bool

from babam_jax.data.examples import Examples
from babam_jax.defenses import noise


def treat(
  untrusted: Examples,
  flags: Bool[np.ndarray, ' n'],
  *,
  epsilon: float,
  distance: str,
  mode: str,
  seed: int,
) -> Examples:
  """The training set with Algorithm 1's noise on all flagged pictures.

  Order, ids and labels are kept. Flagged pictures always change, the others
  stay the same bit for bit.

  Args:
    untrusted: the training set; its `poisoned` is not read.
    flags: which of its pictures are flagged.
    epsilon: the budget; the noise has a scale of up to 1 / epsilon gray levels.
    distance: one of `noise.DISTANCES`.
    mode: one of `noise.MODES`.
    seed: the seed of the noise.

  Raises:
    UserError: the budget is so large that the noise changes nothing.
  """
  if not flags.any():
    return untrusted
  flagged = untrusted.take(flags)
  sensitivity = noise.sensitivities(
    noise.in_chunks(untrusted), np.unique(flagged.labels), distance
  )
  treated = noise.treat(
    flagged.images,
    flagged.ids,
    np.array([sensitivity[name] for name in flagged.ids]),
    epsilon=epsilon,
    mode=mode,
    seed=seed,
  )
  images = untrusted.images.copy()
  images[flags] = treated.images
  return dataclasses.replace(untrusted, images=images)
