"""No defense: nothing is flagged, nothing treated, nothing repaired."""

import dataclasses
from typing import ClassVar

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import (
  Context,
  Detector,
  Repair,
  Treatment,
  Verdict,
)
from babam_jax.training.classifier import NetworkClassifier


@dataclasses.dataclass(frozen=True)
class NoDetector(Detector):
  """Flags nothing."""

  judges_inputs: ClassVar[bool] = True
  is_none: ClassVar[bool] = True
  looks_at_pictures_alone: ClassVar[bool] = True

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Flags no picture."""
    context.meter.count(0)
    return Verdict(np.zeros(len(pictures)), np.zeros(len(pictures), bool))


@dataclasses.dataclass(frozen=True)
class NoTreatment(Treatment):
  """Leaves flagged pictures as they are: detection is measured alone."""

  def treat(self, examples: Examples, verdict: Verdict, seed: int) -> Examples:
    """The pictures as they are."""
    del verdict, seed
    return examples


@dataclasses.dataclass(frozen=True)
class NoRepair(Repair):
  """Leaves the model as it is."""

  def repair(
    self, context: Context, classifier: NetworkClassifier
  ) -> tuple[NetworkClassifier, dict]:
    """The model as it is."""
    del context
    return classifier, {}
