"""The stages of the experiment. Each is a pure function of its config, its
inputs and the seed, and its result is stored (see `artifacts`)."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32, PyTree
from ml_collections import ConfigDict

from babam_jax import files
from babam_jax.data import datasets, image_folder, scenario
from babam_jax.defenses import babam, pirm
from babam_jax.experiment.lab import (
  Dataset,
  Lab,
  Source,
  read_examples,
  write_examples,
)
from babam_jax.models import initial
from babam_jax.models.pretrained import weights
from babam_jax.progress import progress_bar, say
from babam_jax.store.artifacts import Artifact
from babam_jax.training import parallel, recognizer, train
from babam_jax.training.metric_log import MetricLog

_NOISE_FIELDS = ('flags', 'action', 'epsilon', 'mode', 'distance')


class Model(NamedTuple):
  """A trained recognizer.

  Attributes:
    artifact: where it is stored.
    variables: its parameters, trained and frozen, and batch statistics.
    history: its training metrics, per epoch.
    answers: for defenses that answer by more than one pass of one network:
      logits, or what stands for them, of the 'test' and 'patched' pictures.
  """

  artifact: Artifact
  variables: PyTree
  history: list[dict[str, float]]
  answers: dict[str, Float[np.ndarray, 'n c']] | None = None


class Data(NamedTuple):
  """The scenario, decoded.

  Attributes:
    scenario: all parts, and who attacks whom.
    train: the clean training set.
    test: the test set.
    trusted: clean pictures that only some of the other defenses need.
  """

  scenario: scenario.Scenario
  train: Dataset
  test: Dataset
  trusted: Dataset


def load_scenario(lab: Lab) -> Data:
  """Stage: find, divide, decode and resize the pictures."""
  config = lab.config.data
  pictures = datasets.find_pictures(config.name, config.root, config.classes)
  divided = scenario.split(
    pictures,
    **lab.config.scenario.to_dict(),
    min_images=config.min_images,
    seed=lab.config.seed,
  )

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    parts = scenario.load_split(divided, config.size, config.skip_unreadable)
    for part, examples in parts.items():
      write_examples(output, part, examples)

  depends = lab.config.scenario.to_dict() | {
    'seed': lab.config.seed,
    'size': config.size,
    'skip_unreadable': config.skip_unreadable,
    'fingerprints': {
      part: image_folder.fingerprint(members)
      for part, members in divided.parts.items()
    },
  }
  artifact = lab.store.stage('scenario', 1, depends, [], compute)
  sources = {part: Source(artifact, part) for part in scenario.PARTS}
  parts = {part: read_examples(source) for part, source in sources.items()}
  assembled = scenario.assemble(parts, divided)
  return Data(
    assembled,
    Dataset(assembled.train, (sources['train'],)),
    Dataset(assembled.test, (sources['test'],)),
    Dataset(assembled.trusted, (sources['trusted'],)),
  )


def _features(lab: Lab, source: Source) -> Artifact:
  """Stage: the frozen trunk's output for each picture, by id."""
  config = lab.config.fr

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    examples = read_examples(source)
    with progress_bar(len(examples), 'trunk features', 'img') as bar:
      found = train.predict(
        functools.partial(recognizer.trunk_features, config.model),
        initial.trunk(config.model, config.pretrained, lab.config.seed)[0],
        examples.images,
        lab.config.evaluation.batch_size,
        bar.update,
      )
    arrays = {'ids': examples.ids, 'features': found}
    files.write_arrays(output / 'features.npz', arrays)

  depends = {
    'model': config.model,
    'weights': weights.fingerprint(config.model, config.pretrained),
    'part': source.name,
  }
  if config.pretrained == 'none':
    depends['seed'] = lab.config.seed
  return lab.store.stage(
    f'features/{source.name}', 2, depends, [source.artifact], compute
  )


def recognizer_of(lab: Lab, num_classes: int) -> recognizer.Recognizer:
  """The recognizer that the config describes, untrained."""
  config = lab.config.fr
  return recognizer.Recognizer(
    config.model,
    num_classes,
    config.width,
    config.pretrained,
    config.frozen,
    config.logit_adjustment,
  )


def _recognizer_sources(lab: Lab, dataset: Dataset) -> list[Artifact]:
  """What the recognizer's inputs are read from."""
  if not recognizer_of(lab, 2).on_features:
    return [source.artifact for source in dataset.sources]
  return [_features(lab, source) for source in dataset.sources]


def recognizer_inputs(
  lab: Lab, dataset: Dataset
) -> Float[np.ndarray, 'n d'] | np.ndarray:
  """What the recognizer sees: pictures, or features of a frozen trunk."""
  if not recognizer_of(lab, 2).on_features:
    return dataset.examples.images
  row_of: dict[str, np.ndarray] = {}
  for artifact in _recognizer_sources(lab, dataset):
    found = artifact.arrays('features')
    row_of |= dict(zip(found['ids'], found['features'], strict=True))
  return np.stack([row_of[name] for name in dataset.examples.ids])


def inputs_of_pictures(
  lab: Lab, images: np.ndarray
) -> Float[np.ndarray, 'n d'] | np.ndarray:
  """What the recognizer sees of pictures that no stage has stored."""
  config = lab.config.fr
  if not recognizer_of(lab, 2).on_features:
    return images
  trunk, _ = initial.trunk(config.model, config.pretrained, lab.config.seed)
  size = lab.config.evaluation.batch_size
  return parallel.map_batches(
    _mapped_trunk(config.model), trunk, (images,), size
  )


@functools.cache  # compiled once for many calls
def _mapped_trunk(model: str) -> Callable[..., Any]:
  features = functools.partial(recognizer.trunk_features, model)
  return parallel.mapped(features, 1, 1)


def train_recognizers(
  lab: Lab, datasets: dict[str, Dataset]
) -> dict[str, Model]:
  """The models that the config asks for, each trained on its data set."""
  models: dict[str, Model] = {}
  for name in lab.config.models:
    if name == 'protected' and lab.config.defense.training != 'plain':
      continue
    twins = [other for other in models if datasets[other] is datasets[name]]
    # Nothing was flagged: the protected model is the malicious one.
    models[name] = (
      models[twins[0]] if twins else train_recognizer(lab, name, datasets[name])
    )
  return models


def fit_recognizer(
  lab: Lab,
  network: train.Network,
  inputs: np.ndarray,
  labels: Int32[np.ndarray, ' n'],
  *,
  seed: int,
  scratch: pathlib.Path,
  title: str,
  on_epoch: Callable[[train.EpochRecord], None] = lambda record: None,
) -> tuple[PyTree, list[train.EpochRecord]]:
  """Trains as `config.fr` says; what `Recognizer.logits` needs, and metrics.

  Args:
    lab: with the config.
    network: what to train.
    inputs: the training set, as `network.apply` takes it.
    labels: class numbers.
    seed: of order, augmentation and dropout.
    scratch: checkpoints go below it.
    title: for the progress bar.
    on_epoch: receives each epoch's metrics.
  """
  trained = train.fit(
    network,
    inputs,
    labels,
    train_spec(lab.config.fr),
    seed=seed,
    folder=scratch / 'checkpoints',
    title=title,
    on_epoch=on_epoch,
  )
  variables = recognizer.trained_variables(
    network, trained.params, trained.stats
  )
  return variables, trained.history


def train_recognizer(lab: Lab, name: str, dataset: Dataset) -> Model:
  """Stage: train face recognition on a data set, whatever is in it.

  Args:
    lab: config, store and working folder.
    name: what the model is called: 'clean', 'malicious' or 'protected'.
    dataset: the training set.
  """
  config = lab.config.fr
  examples = dataset.examples
  model = recognizer_of(lab, len(examples.class_names))

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    inputs = recognizer_inputs(lab, dataset)
    network, origin = model.network(lab.config.seed, examples.labels)
    say(f'recognizer {origin}')
    with MetricLog(lab.workdir / 'training', name) as log:
      variables, history = fit_recognizer(
        lab,
        network,
        inputs,
        examples.labels,
        seed=lab.config.seed,
        scratch=scratch,
        title=f'training the {name} model',
        on_epoch=log.add,
      )
    files.write_arrays(output / 'variables.npz', recognizer.flatten(variables))
    files.write_json(output / 'origin.json', origin._asdict())
    files.write_json(output / 'history.json', history)

  depends = config.to_dict() | {
    'checkpoint_every': None,  # does not change the result
    'weights': weights.fingerprint(config.model, config.pretrained),
    'seed': lab.config.seed,
    'ids': [str(name) for name in examples.ids],
    'labels': examples.labels.tolist(),
  }
  sources = _recognizer_sources(lab, dataset)
  artifact = lab.store.stage(f'model/{name}', 2, depends, sources, compute)
  variables = recognizer.unflatten(artifact.arrays('variables'))
  history = artifact.json('history')
  _replay(lab, name, artifact, history)
  return Model(artifact, variables, history)


def _replay(
  lab: Lab, name: str, artifact: Artifact, history: list[dict[str, float]]
) -> None:
  """Gives the working folder the training metrics of a reused model."""
  if artifact.reused:
    with MetricLog(lab.workdir / 'training', name) as log:
      for record in history:
        log.add(record)


def train_spec(config: ConfigDict) -> train.TrainSpec:
  """The training fields of a config node."""
  names = (field.name for field in dataclasses.fields(train.TrainSpec))
  return train.TrainSpec(**{name: config[name] for name in names})


class Scores(NamedTuple):
  """The PIRM's probabilities of poison.

  Attributes:
    train: of the untrusted training set.
    test: of the clean test pictures.
    artifact: where they are stored.
  """

  train: Float[np.ndarray, ' n']
  test: Float[np.ndarray, ' m']
  artifact: Artifact


def score(
  lab: Lab,
  detectors: list[tuple[pirm.Pirm, Artifact]],
  untrusted: Dataset,
  data: Data,
) -> Scores:
  """Stage: score every training picture (Algorithm 2, line 3).

  Of several PIRMs the highest score counts.
  """
  config = lab.config.pirm

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    test = data.test.examples
    total = len(detectors) * (len(untrusted.examples) + len(test))
    with progress_bar(total, 'PIRM scores', 'img') as bar:
      arrays = {
        name: np.max(
          [
            pirm.score(
              model, examples.images, config.score_batch_size, bar.update
            )
            for model, _ in detectors
          ],
          axis=0,
        )
        for name, examples in (('train', untrusted.examples), ('test', test))
      }
    files.write_arrays(output / 'scores.npz', arrays)

  pictures = {'pictures': len(untrusted.examples)}  # some poison is cut off
  inputs = [*(artifact for _, artifact in detectors), *untrusted.inputs]
  artifact = lab.store.stage('scores', 3, pictures, inputs, compute)
  scores = artifact.arrays('scores')
  return Scores(scores['train'], scores['test'], artifact)


def sanitize(
  lab: Lab,
  untrusted: Dataset,
  flags: Bool[np.ndarray, ' n'],
  flagged_by: Artifact,
) -> Dataset:
  """Stage: treat what is flagged (Algorithm 2, lines 4 to 9)."""
  config = lab.config.defense
  if config.action == 'none' or not flags.any():
    return untrusted
  if config.action == 'drop':
    kept = babam.drop_flagged(untrusted.examples, flags)
    return Dataset(kept, untrusted.sources)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    treated = babam.perturb_flagged(
      untrusted.examples,
      flags,
      epsilon=config.epsilon,
      distance=config.distance,
      mode=config.mode,
      seed=lab.config.seed,
    )
    write_examples(output, 'noised', treated)

  depends = {name: config[name] for name in _NOISE_FIELDS} | {
    'threshold': lab.config.pirm.threshold,
    'seed': lab.config.seed,
  }
  inputs = [flagged_by, *untrusted.inputs]
  artifact = lab.store.stage('noise', 3, depends, inputs, compute)
  source = Source(artifact, 'noised')
  treated = read_examples(source)
  return Dataset(
    babam.sanitize(untrusted.examples, treated), (*untrusted.sources, source)
  )
