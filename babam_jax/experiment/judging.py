"""The judgment: the attacker shows the trigger (paper 4.5), detectors are
compared with the truth (4.10), and the cost of the defense is counted."""

from typing import Any

import numpy as np

from babam_jax.defenses.base import Need
from babam_jax.evaluation import metrics, verification
from babam_jax.experiment import defending, features, recognizing
from babam_jax.experiment.defending import Defended, Detection, Refused
from babam_jax.experiment.face_data import FaceData
from babam_jax.experiment.recognizing import Model
from babam_jax.models import heads
from babam_jax.store.artifacts import Artifact
from babam_jax.store.lab import Dataset, Lab
from babam_jax.training.classifier import NetworkClassifier

_WITHOUT_DEFENSE = ('train', 'test', 'poison', 'patched')


def judge_model(
  model: Model, data: FaceData, shown: Dataset, refused: Refused | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Accuracy and attack success of one model (paper 4.5).

  Args:
    model: the model.
    data: has the test pictures.
    shown: the attacker's test pictures with the trigger.
    refused: the inputs that an input check refuses.

  Returns:
    The metrics, and the model's further figures.
  """
  test = data.test.examples
  predicted = model.classifier.predict(test)
  patched = model.classifier.predict(shown.examples)
  refused_test = refused_shown = None
  if refused is not None:
    flags = refused.verdict.flags
    refused_test, refused_shown = flags[: refused.clean], flags[refused.clean :]
  enrolled = np.union1d(data.train.examples.labels, data.scenario.target_label)
  said = metrics.answers_of(predicted, enrolled, refused_test)
  is_source = np.isin(test.ids, data.scenario.source_test.ids)
  is_known = ~is_source | data.scenario.enrolled
  answers = metrics.Answers(
    said[is_known],
    test.labels[is_known],
    metrics.answers_of(patched, enrolled, refused_shown),
    said[is_source],
    data.scenario.source_label,
    data.scenario.target_label,
  )
  says = model.classifier.findings(predicted, test.labels)
  found = metrics.model_metrics(answers)
  network = model.classifier
  if not isinstance(network, NetworkClassifier):
    return found, says
  if not network.recognition.on_features:
    found['features_moved'] = network.recognition.features_moved(
      network.variables, test.images
    )
  if network.compares:
    target, labels = data.scenario.target_label, answers.labels
    # Nobody claims to be who is not enrolled.
    people = np.union1d(labels, [target])
    likeness = _unless_refused(predicted / heads.SCALE, refused_test)
    of_shown = _unless_refused(patched / heads.SCALE, refused_shown)
    found['verification'] = verification.judge(
      likeness[np.ix_(is_known, people)],
      np.searchsorted(people, labels),
      is_source[is_known],
      int(np.searchsorted(people, target)),
      of_shown[:, target],
      likeness[is_source, target],
    )
  return found, says


def _unless_refused(
  cosines: np.ndarray, refused: np.ndarray | None
) -> np.ndarray:
  """A refused input is like nobody: the least cosine."""
  return cosines if refused is None else np.where(refused[:, None], -1, cosines)


def judge_all(
  models: dict[str, Model], data: FaceData, shown: Dataset
) -> dict[str, dict[str, Any]]:
  """The metrics of each undefended model."""
  return {
    name: judge_model(model, data, shown)[0] for name, model in models.items()
  }


def judge_defended(
  defended: Defended,
  undefended: dict[str, dict[str, Any]],
  data: FaceData,
  shown: Dataset,
  refused: Refused | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
  """The metrics of all models, and further figures of the defense."""
  if defended.model is None:
    return undefended, {}
  protected, says = judge_model(defended.model, data, shown, refused)
  return undefended | {'protected': protected}, defended.found | says


def in_order(
  lab: Lab, models: dict[str, Model], defended: Defended
) -> dict[str, Model]:
  """All models, in the order of the config."""
  every = models | {'protected': defended.model}
  return {name: every[name] for name in lab.experiment.models}


def weights_used(models: dict[str, Model], poison: Dataset) -> dict[str, Any]:
  """Where the weights of the recognizers and of the surrogate come from."""
  first = next(iter(models.values()))
  return {
    # A field of metrics.json, whose readers know it by this name.
    'recogniser': first.artifact.json('origin'),
    'surrogate': poison.sources[0].artifact.json('origin'),
  }


def judge_pirm(
  detection: Detection, untrusted: Dataset, data: FaceData
) -> dict[str, Any]:
  """How well PIRMs tell poison from clean pictures (Table 6).

  Returns:
    Rates on the untrusted training set, on the clean test set and, measured
    when the PIRM was trained, on natural images held out; in `ensemble` the
    latter of further PIRMs. Empty if no PIRM is used.
  """
  if not detection.holdouts:
    return {}
  first, *others = detection.holdouts
  found = {
    'holdout': detection.holdouts[first],
    'training_set': metrics.flag_metrics(
      detection.train, untrusted.examples.poisoned
    ),
  }
  if detection.test is not None:
    found['test_set'] = metrics.flag_metrics(
      detection.test, data.test.examples.poisoned
    )
  if others:
    found['ensemble'] = {where: detection.holdouts[where] for where in others}
  return found


def judge_detection(
  lab: Lab, detection: Detection, untrusted: Dataset, refused: Refused | None
) -> dict[str, Any]:
  """How well the detector tells poison from clean training pictures.

  Args:
    lab: the running experiment.
    detection: the training pictures that it flags.
    untrusted: the training set.
    refused: the test inputs that the input check refuses, if there is one.

  Returns:
    Like `metrics.flag_metrics`; where the defense has no detector, those of
    `judge_input_check`; all are None if it has neither.
  """
  if not lab.experiment.defense.detector.is_none:
    truth = untrusted.examples.poisoned
    return metrics.flag_metrics(detection.train, truth)
  if refused is not None:
    return judge_input_check(refused)
  nothing = metrics.flag_metrics(detection.train, untrusted.examples.poisoned)
  return dict.fromkeys(nothing)


def judge_input_check(refused: Refused | None) -> dict[str, Any]:
  """How well the input check tells the attacker's patched test pictures from
  clean ones, like `metrics.flag_metrics`; empty if there is none."""
  if refused is None:
    return {}
  attacks = np.arange(len(refused.verdict.flags)) >= refused.clean
  return metrics.flag_metrics(refused.verdict, attacks)


def cost_of_defense(
  lab: Lab,
  defended: Defended,
  refused: Refused | None,
  before: set[str],
  untrusted: Dataset,
) -> dict[str, Any]:
  """What the protected model's defense costs.

  Args:
    lab: the running experiment.
    defended: the results of the defense.
    refused: the inputs that its input check refused.
    before: the keys of the artifacts that were used before the defense began.
    untrusted: the training set.

  Returns:
    `seconds` of the stages that would not run without it, on whatever machine
    they ran (a second training counts if a detector needs the first model, or
    if it is not plain); evaluations of a network beyond those of an undefended
    model, for each training picture and for each input at test time; and those
    of trusted pictures, once. The passes of training are in the seconds only.

  Raises:
    ValueError: a part of the defense has counted nothing.
  """
  detection = _evaluations(defended.detection.artifact)
  inputs = _evaluations(refused.artifact) if refused else {}
  repair = _evaluations(defended.repair) if defended.repair else {}
  judged = len(refused.verdict.flags) if refused else 1
  passes = defended.model.classifier.passes - 1 if defended.model else 0
  return {
    'seconds': round(_seconds(lab, defended, before)),
    'evaluations_per_training_picture': _per(
      detection['judging'], len(untrusted.examples)
    ),
    'evaluations_per_input': _per(inputs.get('judging', 0), judged) + passes,
    'evaluations_beforehand': sum(
      counts.get('beforehand', 0) for counts in (detection, inputs, repair)
    ),
  }


def _evaluations(artifact: Artifact) -> dict[str, int]:
  if artifact.evaluations is None:
    raise ValueError(f'{artifact.stage} has not counted its evaluations.')
  return artifact.evaluations


def _per(evaluations: int, pictures: int) -> int | float:
  whole, rest = divmod(evaluations, pictures)
  return evaluations / pictures if rest else whole


def _seconds(lab: Lab, defended: Defended, before: set[str]) -> float:
  defense = lab.experiment.defense
  is_second_training = Need.MODEL in defense.detector.needs
  # Without a defense, too, a model is trained on all pictures, which need
  # their features; where the protected model is trained plainly, it takes the
  # place of that one.
  free = {recognizing.CLEAN.name, recognizing.MALICIOUS.name}
  free |= {f'{features.FEATURES.name}/{part}' for part in _WITHOUT_DEFENSE}
  if defended.model and defense.is_plain and not is_second_training:
    free.add(defending.PROTECTED.name)
  return sum(
    artifact.seconds
    for artifact in lab.store.used.values()
    if artifact.key not in before
    and artifact.stage not in free
    and not artifact.stage.startswith(f'{defending.ON_TEST}/')
  )
