"""Poison that one cannot see and triggers that one can: a PIRM (paper 3.4), and
the search for what recurs. What `launch.sanitize` looks for in a folder."""

import dataclasses

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Verdict
from babam_jax.defenses.pirm_detector import PirmDetector
from babam_jax.defenses.visible_trigger import VisibleTrigger


@dataclasses.dataclass(frozen=True)
class BothHalves(VisibleTrigger, PirmDetector):
  """Flags what a PIRM takes for poison, or what recurs in a part of a class and
  in no other."""

  judges_inputs = False  # a single input recurs nowhere

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Scores by the probability of poison; 1 where something recurs."""
    hidden = PirmDetector.judge(self, context, pictures)
    visible = VisibleTrigger.judge(self, context, pictures)
    return Verdict(
      np.where(visible.flags, 1.0, hidden.scores),
      hidden.flags | visible.flags,
      visible.places,
    )
