"""The defense: who flags, how flagged pictures are treated, who trains, who
repairs, who checks inputs. BA-BAM (Algorithm 2) is one such choice of five."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from babam_jax import files
from babam_jax.config.schema import Experiment
from babam_jax.data.examples import Examples, concatenate
from babam_jax.defenses import pirm
from babam_jax.defenses.base import Detector, Need, Verdict
from babam_jax.experiment import face_data, features, poisoning, recognizing
from babam_jax.experiment.face_data import FaceData
from babam_jax.experiment.features import StoredInputs
from babam_jax.experiment.recognizing import Model
from babam_jax.pirm_training import pirm_stages
from babam_jax.settings import refuse
from babam_jax.store.artifacts import Artifact
from babam_jax.store.lab import (
  Dataset,
  Lab,
  Source,
  read_examples,
  write_examples,
)
from babam_jax.store.stage import Stage
from babam_jax.training.classifier import load_network

_VERDICT = 'verdict'
# The detector's verdicts on test pictures, which are no part of the defense.
ON_TEST = 'detection_on_test'


def _seen_by(experiment: Experiment) -> tuple[Stage, ...]:
  """The stages whose results the detector looks at."""
  part = experiment.defense.detector
  poison = poisoning.stage_of(experiment.attack.method)
  found = [face_data.SCENARIO, poison]
  if Need.MODEL in part.needs:
    found.append(recognizing.MALICIOUS)
  if pirm.TRAIN in part.members:
    found.append(pirm_stages.CALIBRATION)
  return tuple(found)


DETECTION = Stage(
  'detection',
  2,
  ('defense.detector', 'attack.share', *recognizing.RECOGNITION),
  after=_seen_by,
)
# For detectors that need no trained model: they read pictures only.
DETECTION_OF_PICTURES = dataclasses.replace(
  DETECTION,
  reads=(
    'defense.detector',
    'attack.share',
    '-recognizer',
    '-evaluation.batch_size',
    '-seed',
  ),
)
TREATMENT = Stage(
  'treatment',
  1,
  ('defense.treatment', 'seed'),
  after=lambda experiment: (_detection(experiment),),
)
PROTECTED = Stage(
  'model/protected',
  3,
  (*recognizing.RECOGNITION, 'defense.trainer'),
  after=lambda _: (TREATMENT,),
)
REPAIR = Stage(
  'repair',
  3,
  (*recognizing.RECOGNITION, 'defense.repair'),
  after=lambda _: (PROTECTED,),
)
INPUT_CHECK = Stage(
  'inputs',
  3,
  ('defense.input_check', *recognizing.RECOGNITION),
  after=lambda _: (REPAIR, poisoning.SHOWN),
)


def _detection(experiment: Experiment) -> Stage:
  """The stage of the detector, which may depend on a trained model."""
  if experiment.defense.detector.looks_at_pictures_alone:
    return DETECTION_OF_PICTURES
  return DETECTION


class Detection(NamedTuple):
  """The verdicts of the detector.

  Attributes:
    train: that on the untrusted training set.
    test: that on the clean test pictures; None if the detector can judge
      training pictures only.
    holdouts: the rates of each PIRM when it was trained, by name; empty for
      other detectors.
    artifact: the stored verdicts.
  """

  train: Verdict
  test: Verdict | None
  holdouts: dict[str, Any]
  artifact: Artifact


class Refused(NamedTuple):
  """Which inputs are refused at test time.

  Attributes:
    verdict: on the clean test pictures, then on the attacker's patched ones.
    clean: the number of clean ones.
    artifact: the stored verdict.
  """

  verdict: Verdict
  clean: int
  artifact: Artifact


class Defended(NamedTuple):
  """What the defense has made of the untrusted training set.

  Attributes:
    detection: which pictures were flagged.
    treated: the training set after treatment.
    model: the protected model; None if the config does not ask for it.
    found: what the repair has found in the model.
    repair: the stored repair, if there is one.
  """

  detection: Detection
  treated: Dataset
  model: Model | None
  found: dict[str, Any]
  repair: Artifact | None = None


def defend(
  lab: Lab,
  stored: StoredInputs,
  untrusted: Dataset,
  data: FaceData,
  models: dict[str, Model],
) -> Defended:
  """Detects, treats, trains, repairs."""
  detection = _detect(lab, stored, untrusted, data)
  treated = _treat(lab, untrusted, detection)
  stored.add(treated)
  if 'protected' not in lab.experiment.models:
    return Defended(detection, treated, None, {})
  defense = lab.experiment.defense
  model = models.get('malicious')
  if model is None or treated is not untrusted or not defense.is_plain:
    flagged = untrusted.examples.ids[detection.train.flags]
    flags = np.isin(treated.examples.ids, flagged)
    model = recognizing.train(
      lab, stored, PROTECTED, treated, data, defense.trainer, flags
    )
  if defense.names.repair == 'none':
    return Defended(detection, treated, model, {})
  model, found = _repair(lab, stored, model, data)
  return Defended(detection, treated, model, found, model.artifact)


def _detect(
  lab: Lab, stored: StoredInputs, untrusted: Dataset, data: FaceData
) -> Detection:
  """Stage: flag training pictures (Algorithm 2, line 3); and, for the report
  alone, test pictures."""
  detector = lab.experiment.defense.detector
  name = lab.experiment.defense.names.detector
  known, examined = _known(
    lab,
    detector,
    lambda: recognizing.train(
      lab, stored, recognizing.MALICIOUS, untrusted, data
    ),
  )
  examined += data.trusted.inputs

  def judged(stage: Stage, pictures: Dataset) -> tuple[Verdict, Artifact]:
    def compute(
      experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
    ) -> dict[str, int]:
      context = recognizing.context_of(
        experiment, stored, data, scratch, **known
      )
      chosen = experiment.defense.detector
      _write_verdict(output, chosen.judge(context, pictures.examples))
      return context.meter.counts(name)

    facts = {
      'ids': [str(name) for name in pictures.examples.ids],
      'detector': detector.facts(f'config.defense.{name}'),
    }
    artifact = lab.make(
      stage,
      compute,
      inputs=[*examined, *pictures.inputs],
      facts=facts,
      name=f'{stage.name}/{name}',
    )
    return detector.decide(_read_verdict(artifact)), artifact

  stage = _detection(lab.experiment)
  verdict, artifact = judged(stage, untrusted)
  test = None
  if detector.judges_inputs and Need.MODEL not in detector.needs:
    test, _ = judged(dataclasses.replace(stage, name=ON_TEST), data.test)
  holdouts = detector.holdouts(known.get('pirms', ()))
  return Detection(verdict, test, holdouts, artifact)


def _known(
  lab: Lab, detector: Detector, model: Callable[[], Model]
) -> tuple[dict[str, Any], list[Artifact]]:
  """What a detector needs to know, and the artifacts that it comes from.

  Args:
    lab: the running experiment.
    detector: one of training pictures, or of inputs.
    model: gives the model that it may examine, if it needs one.
  """
  known: dict[str, Any] = {}
  inputs: list[Artifact] = []
  if Need.MODEL in detector.needs:
    found = model()
    known['model'] = found.classifier
    inputs.append(found.artifact)
  if Need.PIRMS in detector.needs:
    pirms = [pirm_stages.obtain(lab, where) for where in detector.members]
    known['pirms'] = tuple(model for model, _ in pirms)
    inputs += [artifact for _, artifact in pirms]
  return known, inputs


def _write_verdict(output: pathlib.Path, verdict: Verdict) -> None:
  known = {k: v for k, v in verdict._asdict().items() if v is not None}
  files.write_arrays(output / f'{_VERDICT}.npz', known)


def _read_verdict(artifact: Artifact) -> Verdict:
  return Verdict(**artifact.arrays(_VERDICT))


def _treat(lab: Lab, untrusted: Dataset, detection: Detection) -> Dataset:
  """Stage: treat what is flagged (Algorithm 2, lines 4 to 9)."""
  examples, verdict = untrusted.examples, detection.train
  if not verdict.flags.any():
    return untrusted

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    treated = experiment.defense.treatment.treat(
      examples, verdict, experiment.seed
    )
    write_examples(output, 'changed', _changed(examples, treated))
    kept = np.isin(examples.ids, treated.ids)
    files.write_arrays(output / 'kept.npz', {'kept': kept})

  chosen = lab.experiment.defense.names.treatment
  facts = {
    'ids': [str(name) for name in examples.ids],
    'flagged': [str(name) for name in examples.ids[verdict.flags]],
    'treatment': lab.experiment.defense.treatment.facts(
      f'config.defense.{chosen}'
    ),
  }
  if verdict.located.any():
    facts['places'] = verdict.places[verdict.flags].tolist()
  name = f'{TREATMENT.name}/{chosen}'
  artifact = lab.make(
    TREATMENT, compute, inputs=untrusted.inputs, facts=facts, name=name
  )
  source = Source(artifact, 'changed')
  changed, kept = read_examples(source), artifact.arrays('kept')['kept']
  if not kept.any():
    refuse(
      'defense.treatment',
      chosen,
      f'one that leaves pictures to train on: all {len(kept)} were flagged',
      'Choose another, or a detector that flags less.',
    )
  if not len(changed):
    if kept.all():
      return untrusted
    return Dataset(examples.take(kept), untrusted.sources)
  treated = _with_changed(examples, changed)
  if not kept.all():  # a copy of all pictures
    treated = treated.take(kept)
  return Dataset(treated, (*untrusted.sources, source))


def _changed(before: Examples, after: Examples) -> Examples:
  """The pictures that a treatment has changed."""
  row_of = {name: row for row, name in enumerate(before.ids.tolist())}
  rows = [row_of[name] for name in after.ids.tolist()]
  pairs = zip(before.images[rows], after.images, strict=True)
  return after.take(np.array([(a != b).any() for a, b in pairs], bool))


def _with_changed(examples: Examples, changed: Examples) -> Examples:
  """The training set with the changed pictures in their places."""
  row_of = {name: row for row, name in enumerate(examples.ids.tolist())}
  images = examples.images.copy()
  images[[row_of[name] for name in changed.ids.tolist()]] = changed.images
  return dataclasses.replace(examples, images=images)


def _repair(
  lab: Lab, stored: StoredInputs, model: Model, data: FaceData
) -> tuple[Model, dict[str, Any]]:
  """Stage: repair a trained model; also returns what was found in it."""
  name = lab.experiment.defense.names.repair

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> dict[str, int]:
    context = recognizing.context_of(experiment, stored, data, scratch)
    repaired, found = experiment.defense.repair.repair(
      context, model.classifier
    )
    repaired.save(output)
    files.write_json(output / 'found.json', found)
    files.write_json(output / 'origin.json', model.artifact.json('origin'))
    return context.meter.counts(name)

  inputs = [model.artifact, *data.trusted.inputs]
  facts = {
    'repair': lab.experiment.defense.repair.facts(f'config.defense.{name}')
  }
  artifact = lab.make(
    REPAIR, compute, inputs=inputs, facts=facts, name=f'{REPAIR.name}/{name}'
  )
  with artifact.whole():
    classifier = load_network(
      features.recognition_of(lab.experiment, stored),
      artifact.folder,
      len(data.train.examples.class_names),
    )
  found = artifact.json('found')
  return Model(artifact, classifier, model.history), found


def check_inputs(
  lab: Lab,
  stored: StoredInputs,
  model: Model | None,
  data: FaceData,
  shown: Dataset,
) -> Refused | None:
  """Stage: which inputs the input check of the protected model refuses; None
  without a check.

  Args:
    lab: the running experiment.
    stored: inputs of stored pictures.
    model: the protected model.
    data: has the clean test pictures.
    shown: the attacker's test pictures with the trigger.
  """
  name = lab.experiment.defense.names.input_check
  if name == 'none' or model is None:
    return None
  test = data.test.examples
  guard = lab.experiment.defense.input_check
  known, inputs = _known(lab, guard, lambda: model)

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> dict[str, int]:
    chosen = experiment.defense.input_check
    context = recognizing.context_of(experiment, stored, data, scratch, **known)
    both = concatenate([test, shown.examples])
    _write_verdict(output, chosen.judge(context, both))
    return context.meter.counts(type(chosen).__name__)

  inputs += [*data.test.inputs, *data.trusted.inputs, *shown.inputs]
  facts = {'guard': guard.facts(f'config.defense.{name}')}
  artifact = lab.make(
    INPUT_CHECK,
    compute,
    inputs=inputs,
    facts=facts,
    name=f'{INPUT_CHECK.name}/{name}',
  )
  verdict = guard.decide(_read_verdict(artifact))
  return Refused(verdict, len(test), artifact)
