"""The victim's whole class under suspicion (paper 4.11)."""

import dataclasses
from typing import ClassVar

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Verdict


@dataclasses.dataclass(frozen=True)
class VictimClass(Detector):
  """Flags every picture that bears the victim's label."""

  looks_at_pictures_alone: ClassVar[bool] = True

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Flags the class; scores are 0 or 1."""
    context.meter.count(0)
    flags = pictures.labels == context.victim
    return Verdict(flags.astype(np.float64), flags)
