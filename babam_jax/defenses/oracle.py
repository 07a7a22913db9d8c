"""The ground truth as a detector: no detector can do better (paper 4.12, where
the poison is picked by hand)."""

import dataclasses
from typing import ClassVar

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Verdict


@dataclasses.dataclass(frozen=True)
class Oracle(Detector):
  """Flags the poison, and nothing else."""

  looks_at_pictures_alone: ClassVar[bool] = True

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """The ground truth; scores are 0 or 1."""
    context.meter.count(0)
    flags = pictures.poisoned
    return Verdict(flags.astype(np.float64), flags)
