"""Flagged pictures through filters that need no training; all others, too."""

import dataclasses

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Treatment, Verdict
from babam_jax.defenses.filters import Filters
from babam_jax.defenses.suspect import check_judged
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Filtered(Filters, Treatment):
  """Filters, as Xu et al. 2018 ("Feature squeezing") put before a network.

  If only flagged pictures were filtered, the network would learn that the
  filter's trace is the victim, and so forget the victim: all pictures are.
  """

  everywhere: bool = setting(
    True,
    'Whether all training pictures are filtered as soon as one is flagged, not '
    'the flagged alone.',
  )

  def treat(self, examples: Examples, verdict: Verdict, seed: int) -> Examples:
    """Filters; order, ids and labels are kept.

    Raises:
      UserError: the verdict is on other pictures, or there are no such steps.
    """
    check_judged(examples, verdict)
    self.check_steps('steps')
    if not verdict.flags.any():
      return examples
    rows = np.full(len(examples), self.everywhere) | verdict.flags
    images = examples.images.copy()
    images[rows] = self.change(images[rows], examples.ids[rows], seed)
    return dataclasses.replace(examples, images=images)
