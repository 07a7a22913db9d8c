"""Leaving out flagged pictures: the obvious alternative to noise."""

import dataclasses

import numpy as np
from jaxtyping import Shaped

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Treatment


@dataclasses.dataclass(frozen=True)
class Drop(Treatment):
  """Trains without the flagged pictures."""

  def treat(
    self, examples: Examples, flags: Shaped[np.ndarray, ' n'], seed: int
  ) -> Examples:
    """The pictures that are not flagged."""
    del seed
    return examples.take(~flags)
