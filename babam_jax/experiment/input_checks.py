"""Inputs at test time: STRIP and RAP refuse those that look like an attack."""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from babam_jax import files
from babam_jax.data.examples import concatenate
from babam_jax.defenses.suspect import Verdict
from babam_jax.experiment import flagging
from babam_jax.experiment.lab import Dataset, Lab
from babam_jax.experiment.stages import Data, Model

CHECKS = {'strip': flagging.strip_pictures, 'rap': flagging.rap_pictures}


class Refused(NamedTuple):
  """Which test inputs are not let pass.

  Attributes:
    test: of the test pictures.
    patched: of the attacker's pictures with the trigger.
    scores: of both, one after the other: the higher, the more suspicious.
  """

  test: Bool[np.ndarray, ' n']
  patched: Bool[np.ndarray, ' m']
  scores: Float[np.ndarray, ' k']


def check(
  lab: Lab, models: dict[str, Model], data: Data, patched: Dataset
) -> dict[str, Refused]:
  """Stage: what `config.defense.inputs` refuses, for the protected model;
  nothing where inputs are not checked."""
  by = lab.config.defense.inputs
  if by == 'none' or 'protected' not in models:
    return {}
  model = models['protected']
  test = data.test.examples

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    both = concatenate([test, patched.examples])
    verdict: Verdict = CHECKS[by](lab, model, both, data)
    files.write_arrays(output / 'verdict.npz', verdict._asdict())

  depends = lab.config.defense[by].to_dict() | {'seed': lab.config.seed}
  inputs = [model.artifact, patched.sources[0].artifact]
  inputs += [*data.test.inputs, *data.trusted.inputs]
  artifact = lab.store.stage(f'inputs/{by}', 1, depends, inputs, compute)
  found = artifact.arrays('verdict')
  count = len(test)
  flags = found['flags']
  refused = Refused(flags[:count], flags[count:], found['scores'])
  return {'protected': refused}
