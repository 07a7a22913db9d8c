"""The recognizers: without attack, under attack (paper 3.2, 4.5)."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from babam_jax import files
from babam_jax.config.schema import Experiment
from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Meter, Need, Trainer
from babam_jax.defenses.plain import Plain
from babam_jax.experiment import face_data, poisoning
from babam_jax.experiment.face_data import FaceData
from babam_jax.models.pretrained import weights
from babam_jax.progress import progress_bar, say
from babam_jax.store.artifacts import Artifact
from babam_jax.store.lab import Dataset, Lab, Source, read_examples
from babam_jax.store.stage import Stage
from babam_jax.training.classifier import Classifier
from babam_jax.training.metric_log import MetricLog
from babam_jax.training.recognition import Inputs, Recognition

RECOGNITION = (
  'recognizer',
  '-recognizer.checkpoint_every',
  '-evaluation.batch_size',
  'seed',
)
FEATURES = Stage(
  'features',
  3,
  (
    'recognizer.model',
    'recognizer.pretrained',
    '-recognizer',
    '-evaluation.batch_size',
    'seed',
  ),
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


class StoredInputs:
  """The recognizers' inputs for data sets whose pictures are stored.

  With a frozen trunk these are its features, made by a stage of their own, so
  that all models share them.
  """

  def __init__(self, lab: Lab):
    self._lab = lab
    self._known: list[Dataset] = []

  def add(self, *datasets: Dataset) -> None:
    """Makes data sets known."""
    self._known.extend(datasets)

  def __call__(self, pictures: Examples) -> Inputs | None:
    """The features of a known data set's pictures; None for any others."""
    for dataset in self._known:
      if dataset.examples is pictures:
        return self._features(dataset)
    return None

  def _features(self, dataset: Dataset) -> Inputs:
    row_of: dict[str, np.ndarray] = {}
    for source in dataset.sources:
      found = _features_of(self._lab, source).arrays('features')
      row_of |= dict(zip(found['ids'], found['features'], strict=True))
    return np.stack([row_of[name] for name in dataset.examples.ids])


def _features_of(lab: Lab, source: Source) -> Artifact:
  """Stage: the frozen trunk's output for each picture, by id."""

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    examples = read_examples(source)
    with progress_bar(len(examples), 'trunk features', 'img') as bar:
      found = recognition_of(experiment).inputs_of(examples.images, bar.update)
    arrays = {'ids': examples.ids, 'features': found}
    files.write_arrays(output / 'features.npz', arrays)

  facts = weights_of(lab) | {'part': source.name}
  return lab.make(
    FEATURES,
    compute,
    inputs=[source.artifact],
    facts=facts,
    name=f'{FEATURES.name}/{source.name}',
  )


def weights_of(lab: Lab) -> dict[str, str]:
  """The fingerprint of the weights from which recognizers start."""
  chosen = lab.experiment.recognizer
  return {'weights': weights.fingerprint(chosen.model, chosen.pretrained)}


def recognition_of(
  experiment: Experiment,
  stored: Callable[[Examples], Inputs | None] = lambda pictures: None,
) -> Recognition:
  """How an experiment builds, feeds and trains recognizers."""
  return Recognition(
    experiment.recognizer,
    experiment.seed,
    experiment.evaluation.batch_size,
    stored,
  )


def context_of(
  experiment: Experiment,
  recognition: Recognition,
  data: FaceData,
  scratch: pathlib.Path,
  **known: Any,
) -> Context:
  """What a part of a defense may know."""
  return Context(
    experiment.seed,
    recognition,
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
) -> Model:
  """Stage: train face recognition on a data set, whatever is in it.

  Args:
    lab: the running experiment.
    stored: inputs of stored pictures.
    stage: the stage, whose name says which model it is.
    dataset: the training set.
    data: has the victim and the trusted pictures.
    trainer: how to train; None: plainly.
  """
  trainer = trainer or Plain()
  examples = dataset.examples
  classes = len(examples.class_names)
  name = stage.name.partition('/')[2]

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    recognition = recognition_of(experiment, stored)
    _, origin = recognition.recognizer(classes).network(
      experiment.seed, examples.labels
    )
    say(f'recognizer {origin}')
    history: list[dict[str, Any]] = []
    with MetricLog(lab.workdir / 'training', name) as log:

      def on_epoch(record: dict[str, Any]) -> None:
        history.append(record)
        log.add(record)

      context = context_of(
        experiment, recognition, data, scratch, on_epoch=on_epoch
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
