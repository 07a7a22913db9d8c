"""Leaving out flagged pictures: the obvious alternative to noise."""

import dataclasses

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Treatment, Verdict


@dataclasses.dataclass(frozen=True)
class Drop(Treatment):
  """Trains without the flagged pictures."""

  def treat(self, examples: Examples, verdict: Verdict, seed: int) -> Examples:
    """The pictures that are not flagged."""
    del seed
    return examples.take(~verdict.flags)
