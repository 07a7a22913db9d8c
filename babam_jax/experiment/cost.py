"""What a defense costs: measured seconds, counted evaluations of a network."""

from typing import Any

from ml_collections import ConfigDict

from babam_jax.experiment import flagging
from babam_jax.experiment.lab import Lab

# Stages that run for a defense alone; a slash at the end: any that begin so.
_STAGES = (
  'noise',
  'features/noised',
  'flags/',
  'training/',
  'repair/',
  'inputs/',
)
# Of a detector, and of a check of inputs, for each picture.
_EVALUATIONS = {
  'pirm': lambda config: 1 + len(config.pirm.beside),
  'activation_clustering': lambda config: 1,
  'spectral_signatures': lambda config: 1,
  'deep_knn': lambda config: 1,
  'strip': lambda config: config.defense.strip.overlays,
  'rap': lambda config: 2,  # with the perturbation and without
}
# Of a way to answer, for each input, beyond the one of a plain model.
_ANSWERING = {
  'rab': lambda config: config.defense.rab.models - 1,
  'smoothing': lambda config: config.defense.smoothing.samples - 1,
}


def of_defense(lab: Lab) -> dict[str, Any]:
  """The cost of the protected model's defense.

  Returns:
    `seconds` of the stages that would not run without it, on whatever machine
    made them (a second training, after a look at the first model, is among
    them; so is all of a training that takes the place of the plain one); and
    evaluations of a network beyond those of an undefended model, for each
    training picture and for each input at test time. The passes of training
    and of repairs are in the seconds only.
  """
  return {
    'seconds': round(sum(_seconds(lab))),
    'evaluations_per_training_picture': _per_training_picture(lab.config),
    'evaluations_per_input': _per_input(lab.config),
  }


def _seconds(lab: Lab) -> list[float]:
  defense = lab.config.defense
  wanted = list(_STAGES)
  if defense.action != 'none' and defense.flags == 'pirm':
    wanted.append('scores')
  if defense.action != 'none' and defense.flags in flagging.DETECTORS:
    wanted.append('model/protected')
  return [
    artifact.seconds
    for artifact in lab.store.used.values()
    if _is_among(artifact.stage, wanted)
  ]


def _is_among(stage: str, wanted: list[str]) -> bool:
  return any(
    stage.startswith(name) if name.endswith('/') else stage == name
    for name in wanted
  )


def _per_training_picture(config: ConfigDict) -> int:
  if config.defense.action == 'none':
    return 0
  counted = _EVALUATIONS.get(config.defense.flags)
  return counted(config) if counted else 0


def _per_input(config: ConfigDict) -> int:
  defense = config.defense
  counted = _EVALUATIONS.get(defense.inputs) or _ANSWERING.get(defense.training)
  return counted(config) if counted else 0
