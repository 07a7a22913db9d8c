"""The stages of the experiment. Each is a pure function of its config, its
inputs and the seed, and its result is stored (see `artifacts`)."""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, PyTree
from ml_collections import ConfigDict

from babam_jax import files, seeds
from babam_jax.attack import poison_set
from babam_jax.attack.hidden_trigger import CraftingSpec
from babam_jax.data import datasets, image_folder, scenario
from babam_jax.data.examples import Examples
from babam_jax.defense import babam, pirm
from babam_jax.experiment.artifacts import Artifact
from babam_jax.experiment.lab import (
  Dataset,
  Lab,
  Source,
  read_examples,
  write_examples,
)
from babam_jax.models import initial, weights
from babam_jax.progress import progress_bar, say
from babam_jax.training import recognizer, train
from babam_jax.training.metric_log import MetricLog


class Model(NamedTuple):
  """A trained recogniser.

  Attributes:
    artifact: where it is stored.
    variables: its parameters, trained and frozen, and batch statistics.
    history: its training metrics, per epoch.
  """

  artifact: Artifact
  variables: PyTree
  history: list[dict[str, float]]


class Data(NamedTuple):
  """The scenario, decoded.

  Attributes:
    scenario: all parts, and who attacks whom.
    train: the clean training set.
    test: the test set.
  """

  scenario: scenario.Scenario
  train: Dataset
  test: Dataset


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
  )


def crafting_spec(config: ConfigDict) -> CraftingSpec:
  """The crafting fields of a config node."""
  names = (field.name for field in dataclasses.fields(CraftingSpec))
  return CraftingSpec(**{name: config[name] for name in names})


def build_surrogate(config: ConfigDict, seed: int) -> poison_set.Surrogate:
  """The network that a config node names for the poison to collide in."""
  surrogate = poison_set.surrogate(
    config.model, config.tap, config.pretrained, seed
  )
  say(f'surrogate {surrogate.origin}')
  return surrogate


def craft_poison(lab: Lab, data: Data) -> Dataset:
  """Stage: perturb pictures of the target until they collide with the patched
  source (paper 3.3). They keep the target's label: nothing looks wrong."""
  config = lab.config.attack
  targets = data.scenario.poison_targets
  sources = data.scenario.poison_sources

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    rows, source_rows = poison_set.pair_up(
      seeds.numpy_rng(lab.config.seed, 'poison pairs'),
      len(targets),
      len(sources),
      config.passes,
    )
    surrogate = build_surrogate(config, lab.config.seed)
    poison, patched = poison_set.craft_set(
      surrogate,
      crafting_spec(config),
      targets.images[rows],
      sources.images[source_rows],
      trigger_size=config.trigger_size,
      seed=lab.config.seed,
      scratch=scratch,
    )
    originals = targets.images[rows]
    ids = [
      f'poison{i // len(targets)}/{targets.ids[row]}'
      for i, row in enumerate(rows)
    ]
    examples = Examples(
      images=poison.images,
      labels=np.zeros(len(rows), np.int32),
      ids=np.array(ids, np.str_),
      class_names=('target',),
      poisoned=np.ones(len(rows), bool),
    )
    write_examples(output, 'poison', examples)
    files.write_json(output / 'origin.json', surrogate.origin._asdict())
    change = poison.images.astype(np.int16) - originals
    files.write_json(
      output / 'summary.json',
      {
        'count': len(rows),
        'linf': int(np.abs(change).max()),
        'distance_start': float(poison.distance_start.mean()),
        'distance_end': float(poison.distance_end.mean()),
      },
    )
    files.write_arrays(
      output / 'collisions.npz',
      {'originals': originals, 'patched_sources': patched[poison.pairs]},
    )

  # Poison depends on its pictures alone: other tasks on them share it.
  depends = config.to_dict() | {
    'share': None,  # is cut below
    'weights': weights.fingerprint(config.model, config.pretrained),
    'seed': lab.config.seed,
    'targets': targets.fingerprint(),
    'sources': sources.fingerprint(),
  }
  artifact = lab.store.stage('poison', 3, depends, [], compute)
  source = Source(artifact, 'poison')
  poison = read_examples(source)
  used = np.arange(max(1, round(config.share * len(poison))))
  poison = poison.take(used)
  label = np.int32(data.scenario.target_label)
  labelled = dataclasses.replace(
    poison,
    labels=np.full(len(poison), label),
    class_names=targets.class_names,
  )
  return Dataset(labelled, (source,))


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
  """The recogniser that the config describes, untrained."""
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
  """What the recogniser's inputs are read from."""
  if not recognizer_of(lab, 2).on_features:
    return [source.artifact for source in dataset.sources]
  return [_features(lab, source) for source in dataset.sources]


def recognizer_inputs(
  lab: Lab, dataset: Dataset
) -> Float[np.ndarray, 'n d'] | np.ndarray:
  """What the recogniser sees: pictures, or features of a frozen trunk."""
  if not recognizer_of(lab, 2).on_features:
    return dataset.examples.images
  row_of: dict[str, np.ndarray] = {}
  for artifact in _recognizer_sources(lab, dataset):
    found = artifact.arrays('features')
    row_of |= dict(zip(found['ids'], found['features'], strict=True))
  return np.stack([row_of[name] for name in dataset.examples.ids])


def train_recognizers(
  lab: Lab, datasets: dict[str, Dataset]
) -> dict[str, Model]:
  """The models that the config asks for, each trained on its data set."""
  models: dict[str, Model] = {}
  for name in lab.config.models:
    twins = [other for other in models if datasets[other] is datasets[name]]
    # Nothing was flagged: the protected model is the malicious one.
    models[name] = (
      models[twins[0]] if twins else train_recognizer(lab, name, datasets[name])
    )
  return models


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
    say(f'recogniser {origin}')
    with MetricLog(lab.workdir / 'training', name) as log:
      trained = train.fit(
        network,
        inputs,
        examples.labels,
        train_spec(config),
        seed=lab.config.seed,
        folder=scratch / 'checkpoints',
        title=f'training the {name} model',
        on_epoch=log.add,
      )
    variables = recognizer.trained_variables(
      network, trained.params, trained.stats
    )
    files.write_arrays(output / 'variables.npz', recognizer.flatten(variables))
    files.write_json(output / 'origin.json', origin._asdict())
    files.write_json(output / 'history.json', trained.history)

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


class Flags(NamedTuple):
  """What the detector says of the untrusted training set.

  Attributes:
    flags: which pictures are taken for poison, as `config.defense.flags` has
      it.
    scores: the PIRM's probability of poison.
    test_scores: the same for the clean test pictures.
    artifact: where the scores are stored.
  """

  flags: Bool[np.ndarray, ' n']
  scores: Float[np.ndarray, ' n']
  test_scores: Float[np.ndarray, ' m']
  artifact: Artifact


def flag(
  lab: Lab, detector: tuple[pirm.Pirm, Artifact], untrusted: Dataset, data: Data
) -> Flags:
  """Stage: score every training picture (Algorithm 2, line 3)."""
  model, detector_artifact = detector
  config = lab.config.pirm

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    test = data.test.examples
    total = len(untrusted.examples) + len(test)
    with progress_bar(total, 'PIRM scores', 'img') as bar:
      arrays = {
        name: pirm.score(
          model, examples.images, config.score_batch_size, bar.update
        )
        for name, examples in (('train', untrusted.examples), ('test', test))
      }
    files.write_arrays(output / 'scores.npz', arrays)

  pictures = {'pictures': len(untrusted.examples)}  # some poison is cut off
  artifact = lab.store.stage(
    'scores', 3, pictures, [detector_artifact, *untrusted.inputs], compute
  )
  scores = artifact.arrays('scores')
  flags = scores['train'] > config.threshold
  if lab.config.defense.flags == 'oracle':
    flags = untrusted.examples.poisoned
  if lab.config.defense.flags == 'victim':
    flags = untrusted.examples.labels == data.scenario.target_label
  return Flags(flags, scores['train'], scores['test'], artifact)


def sanitise(lab: Lab, untrusted: Dataset, flagged: Flags) -> Dataset:
  """Stage: treat what is flagged (Algorithm 2, lines 4 to 9)."""
  config = lab.config.defense
  if config.action == 'none' or not flagged.flags.any():
    return untrusted
  if config.action == 'drop':
    kept = babam.drop_flagged(untrusted.examples, flagged.flags)
    return Dataset(kept, untrusted.sources)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    treated = babam.perturb_flagged(
      untrusted.examples,
      flagged.flags,
      epsilon=config.epsilon,
      distance=config.distance,
      mode=config.mode,
      seed=lab.config.seed,
    )
    write_examples(output, 'noised', treated)

  depends = config.to_dict() | {
    'threshold': lab.config.pirm.threshold,
    'seed': lab.config.seed,
  }
  inputs = [flagged.artifact, *untrusted.inputs]
  artifact = lab.store.stage('noise', 3, depends, inputs, compute)
  source = Source(artifact, 'noised')
  treated = read_examples(source)
  return Dataset(
    babam.sanitise(untrusted.examples, treated), (*untrusted.sources, source)
  )
