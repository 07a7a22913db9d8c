"""The stages that experiments share, for those who plan many runs."""

from ml_collections import ConfigDict

from babam_jax.config import schema
from babam_jax.defenses.base import Need
from babam_jax.experiment import defending, poisoning, recognizing
from babam_jax.pirm_training import pirm_stages
from babam_jax.store.stage import Stage


def costly(config: ConfigDict) -> dict[str, str]:
  """The stages of an experiment that take long, with a text for each result.

  Two experiments share a stage if their texts are equal. Fewer results may be
  made than there are texts (if nothing is flagged, the protected model is the
  malicious one): the store decides.

  Returns:
    By the stage's name in the store, all that its result depends on, through
    its inputs too.
  """
  experiment = schema.typed(config)
  return {stage.name: stage.result(experiment) for stage in _costly(experiment)}


def _costly(experiment: schema.Experiment) -> list[Stage]:
  detector = experiment.defense.detector
  found = [poisoning.stage_of(experiment.attack.method)]
  if experiment.defense.trains_a_pirm:
    found += [pirm_stages.TRAINING, pirm_stages.CALIBRATION]
  if 'clean' in experiment.models:
    found.append(recognizing.CLEAN)
  if 'malicious' in experiment.models or Need.MODEL in detector.needs:
    found.append(recognizing.MALICIOUS)
  if 'protected' in experiment.models:
    found.append(defending.PROTECTED)
  return found
