"""The recognizers: without attack, under attack (paper 3.2, 4.5)."""

import pathlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from babam_jax import files
from babam_jax.config.schema import Experiment
from babam_jax.defenses.base import Context, Meter, Need, Trainer
from babam_jax.defenses.plain import Plain
from babam_jax.experiment import face_data, poisoning
from babam_jax.experiment.face_data import FaceData
from babam_jax.experiment.features import (
  StoredInputs,
  recognition_of,
  weights_of,
)
from babam_jax.progress import say
from babam_jax.store.artifacts import Artifact
from babam_jax.store.lab import Dataset, Lab
from babam_jax.store.stage import Stage
from babam_jax.training.classifier import Classifier
from babam_jax.training.metric_log import MetricLog

RECOGNITION = (
  'recognizer',
  '-recognizer.checkpoint_every',
  '-evaluation.batch_size',
  'seed',
)
CLEAN = Stage(
  'model/clean', 3, RECOGNITION, after=lambda _: (face_data.SCENARIO,)
)
MALICIOUS = Stage(
  'model/malicious',
  3,
  (*RECOGNITION, 'attack.share'),
  after=lambda experiment: (
    face_data.SCENARIO,
    poisoning.stage_of(experiment.attack.method),
  ),
)


class Model(NamedTuple):
  """A trained recognizer.

  Attributes:
    artifact: the stored model.
    classifier: tells who is in a picture.
    history: its training metrics, per epoch.
  """

  artifact: Artifact
  classifier: Classifier
  history: list[dict[str, Any]]


def context_of(
  experiment: Experiment,
  stored: StoredInputs,
  data: FaceData,
  scratch: pathlib.Path,
  **known: Any,
) -> Context:
  """What a part of a defense may know.

  Args:
    experiment: the running stage's view of the config.
    stored: inputs of stored pictures.
    data: has the victim and the trusted pictures.
    scratch: the stage's folder for finished parts.
    **known: further fields of `Context`.
  """
  return Context(
    experiment.seed,
    recognition_of(experiment, stored),
    scratch,
    data.scenario.target_label,
    Meter(),
    trusted=data.trusted.examples,
    **known,
  )


def train_all(
  lab: Lab,
  stored: StoredInputs,
  data: FaceData,
  training_sets: dict[str, Dataset],
) -> dict[str, Model]:
  """Trains the undefended models that the config asks for."""
  stages = {'clean': CLEAN, 'malicious': MALICIOUS}
  return {
    name: train(lab, stored, stages[name], training_sets[name], data)
    for name in lab.experiment.models
    if name in stages
  }


def train(
  lab: Lab,
  stored: StoredInputs,
  stage: Stage,
  dataset: Dataset,
  data: FaceData,
  trainer: Trainer | None = None,
  flags: Bool[np.ndarray, ' n'] | None = None,
) -> Model:
  """Stage: train face recognition on a data set, whatever is in it.

  Args:
    lab: the running experiment.
    stored: inputs of stored pictures.
    stage: the stage, whose name says which model it is.
    dataset: the training set.
    data: has the victim and the trusted pictures.
    trainer: how to train; None: plainly.
    flags: which of the pictures were flagged, if any were judged.
  """
  trainer = trainer or Plain()
  examples = dataset.examples
  classes = len(examples.class_names)
  name = stage.name.partition('/')[2]

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    origin = recognition_of(experiment).recognizer(classes).origin
    say(f'recognizer {origin}')
    history: list[dict[str, Any]] = []
    with MetricLog(lab.workdir / 'training', name) as log:

      def on_epoch(record: dict[str, Any]) -> None:
        history.append(record)
        log.add(record)

      context = context_of(
        experiment, stored, data, scratch, on_epoch=on_epoch, flags=flags
      )
      trainer.fit(context, examples).save(output)
    files.write_json(output / 'origin.json', origin._asdict())
    files.write_json(output / 'history.json', history)

  facts = weights_of(lab) | {
    'ids': [str(name) for name in examples.ids],
    'labels': examples.labels.tolist(),
    'trainer': [type(trainer).__name__, trainer.version],
    'files': trainer.facts('config.defense.trainer'),
  }
  if Need.FLAGS in trainer.needs and flags is not None:
    facts['flagged'] = flags.tolist()
  inputs = [*dataset.inputs]
  if Need.TRUSTED in trainer.needs:
    inputs += data.trusted.inputs
  artifact = lab.make(stage, compute, inputs=inputs, facts=facts)
  recognition = recognition_of(lab.experiment, stored)
  with artifact.whole():
    trained = trainer.load(recognition, artifact.folder, classes)
  history = artifact.json('history')
  _replay(lab, name, artifact, history)
  return Model(artifact, trained, history)


def _replay(
  lab: Lab, name: str, artifact: Artifact, history: list[dict[str, Any]]
) -> None:
  """Gives the working folder the training metrics of a reused model."""
  if artifact.reused and history:
    with MetricLog(lab.workdir / 'training', name) as log:
      for record in history:
        log.add(record)
