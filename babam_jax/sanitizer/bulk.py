"""Whether most of a folder scores like the pictures of which a rate was
measured.

Poison is a small part of a folder (a tenth moves the result little); the lower
half of its scores is of clean pictures. If that half lies higher than it
should, so does the upper half of the clean ones, and more of them are flagged
than the rate says.
"""

import numpy as np
from jaxtyping import Float

from babam_jax.sanitizer.folder_scores import log_odds

FEWEST = 50  # pictures, of which the lower half says enough
_FEWEST_CLEAN = 100
_LOWER, _MIDDLE = 0.1, 0.5  # quantiles that poison does not move far


def expected_share(
  scores: Float[np.ndarray, ' n'],
  threshold: float,
  clean: Float[np.ndarray, ' m'],
) -> float | None:
  """The share of clean pictures like these that scores above a threshold.

  The scores of clean pictures are moved and stretched, as log-odds, until
  their lower half lies where that of the folder lies.

  Args:
    scores: those of a folder.
    threshold: pictures with a higher score are flagged.
    clean: the scores of the clean pictures of which the rate was measured.

  Returns:
    The share; None if there are too few pictures on one side to tell.
  """
  if len(scores) < FEWEST or len(clean) < _FEWEST_CLEAN:
    return None
  stored = log_odds(clean)
  low, middle = np.quantile(stored, (_LOWER, _MIDDLE))
  if middle <= low:
    return None
  own_low, own_middle = np.quantile(log_odds(scores), (_LOWER, _MIDDLE))
  stretch = (own_middle - own_low) / (middle - low)
  moved = own_middle + stretch * (stored - middle)
  limit = log_odds(np.array([threshold]))[0]
  return float((moved > limit).mean())
