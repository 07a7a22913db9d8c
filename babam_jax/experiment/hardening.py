"""Defenses that change the protected model: how it is trained, how it is
repaired, how it answers."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

from babam_jax import files, seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses import (
  dp_instahide,
  fine_pruning,
  neural_cleanse,
  rab,
  smoothing,
)
from babam_jax.experiment import flagging, stages
from babam_jax.experiment.lab import Dataset, Lab
from babam_jax.experiment.stages import Data, Model
from babam_jax.models import networks
from babam_jax.models.pretrained import weights
from babam_jax.progress import progress_bar, say
from babam_jax.training import parallel, recognizer, train

Answers = dict[str, Float[np.ndarray, 'n c']]
_CHUNK = 128  # pictures that are noised at a time


def harden(
  lab: Lab,
  models: dict[str, Model],
  sanitized: Dataset,
  data: Data,
  patched: Dataset,
) -> dict[str, Model]:
  """The models, the protected one as `config.defense.training` and
  `config.defense.repair` have it."""
  config = lab.config.defense
  if 'protected' not in lab.config.models:
    return models
  protected = models.get('protected')
  if config.training != 'plain':
    protected = _train(lab, config.training, sanitized, data, patched)
  if config.repair != 'none':
    protected = _repair(lab, protected, data, patched)
  return models | {'protected': protected}


def findings(lab: Lab, models: dict[str, Model]) -> dict[str, Any]:
  """What the training or the repair says of itself: certificates, patches."""
  config = lab.config.defense
  changed = config.training != 'plain' or config.repair != 'none'
  if 'protected' not in models or not changed:
    return {}
  return models['protected'].artifact.json('found')


def _train(
  lab: Lab, way: str, dataset: Dataset, data: Data, patched: Dataset
) -> Model:
  """Stage: one of the other ways of training."""

  labels = dataset.examples.labels
  network = stages.recognizer_of(lab, len(dataset.examples.class_names))

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    made = TRAININGS[way](lab, dataset, data, patched, scratch)
    _, origin = network.network(lab.config.seed, labels)
    _write(output, *made, origin._asdict())

  depends = lab.config.fr.to_dict() | {
    'checkpoint_every': None,
    'defense': lab.config.defense[way].to_dict(),
    'weights': weights.fingerprint(
      lab.config.fr.model, lab.config.fr.pretrained
    ),
    'seed': lab.config.seed,
    'ids': [str(name) for name in dataset.examples.ids],
    'labels': labels.tolist(),
  }
  inputs = [*dataset.inputs, *data.test.inputs, *patched.inputs]
  artifact = lab.store.stage(f'training/{way}', 1, depends, inputs, compute)
  return Model(artifact, {}, [], artifact.arrays('answers'))


def _repair(lab: Lab, model: Model, data: Data, patched: Dataset) -> Model:
  """Stage: one of the repairs of a trained model."""
  way = lab.config.defense.repair

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    made = REPAIRS[way](lab, model, data, patched, scratch)
    _write(output, *made, model.artifact.json('origin'))

  depends = lab.config.fr.to_dict() | {
    'checkpoint_every': None,
    'defense': lab.config.defense[way].to_dict(),
    'seed': lab.config.seed,
  }
  inputs = [model.artifact, *data.test.inputs, *data.trusted.inputs]
  inputs += patched.inputs
  artifact = lab.store.stage(f'repair/{way}', 1, depends, inputs, compute)
  return Model(artifact, {}, model.history, artifact.arrays('answers'))


def _write(
  output: pathlib.Path, answers: Answers, found: Any, origin: Any
) -> None:
  files.write_arrays(output / 'answers.npz', answers)
  files.write_json(output / 'found.json', found)
  files.write_json(output / 'origin.json', origin)


def _answer(
  lab: Lab,
  variables: PyTree,
  test: np.ndarray,
  patched: np.ndarray,
  num_classes: int,
) -> Answers:
  logits = stages.recognizer_of(lab, num_classes).logits
  size = lab.config.evaluation.batch_size
  return {
    'test': train.predict(logits, variables, test, size),
    'patched': train.predict(logits, variables, patched, size),
  }


def _fit_on_pictures(
  lab: Lab,
  network: train.Network,
  examples: Examples,
  scratch: pathlib.Path,
  title: str,
) -> PyTree:
  """Trains a network that takes pictures; its variables for `logits`."""
  variables, _ = stages.fit_recognizer(
    lab,
    network,
    examples.images,
    examples.labels,
    seed=lab.config.seed,
    scratch=scratch,
    title=title,
  )
  return variables


def _by_dp_instahide(lab, dataset, data, patched, scratch):
  examples = dataset.examples
  classes = len(examples.class_names)
  network = dp_instahide.network(
    stages.recognizer_of(lab, classes),
    examples.labels,
    **lab.config.defense.dp_instahide,
    seed=lab.config.seed,
  )
  variables = _fit_on_pictures(lab, network, examples, scratch, 'DP-InstaHide')
  test, shown = (stages.recognizer_inputs(lab, d) for d in (data.test, patched))
  return _answer(lab, variables, test, shown, classes), {}


def _by_smoothing(lab, dataset, data, patched, scratch):
  config = lab.config.defense.smoothing
  examples = dataset.examples
  network = stages.recognizer_of(lab, len(examples.class_names))
  training = smoothing.network(
    network, examples.labels, sigma=config.sigma, seed=lab.config.seed
  )
  variables = _fit_on_pictures(lab, training, examples, scratch, 'smoothing')
  suspect = flagging.suspect_of(
    lab, Model(None, variables, []), len(examples.class_names)
  )
  sets = {'test': data.test.examples, 'patched': patched.examples}
  total = sum(map(len, sets.values()))
  with progress_bar(total, 'smoothing: votes', 'img') as bar:
    votes = {
      name: smoothing.votes(
        suspect,
        found.images,
        sigma=config.sigma,
        samples=config.samples,
        seed=lab.config.seed,
        batch_size=lab.config.evaluation.batch_size,
        on_batch=bar.update,
      )
      for name, found in sets.items()
    }
  return votes, {}


def _by_rab(lab, dataset, data, patched, scratch):
  config = lab.config.defense.rab
  finished = []
  for number in range(config.models):
    path = scratch / f'member{number:05d}.npz'
    if not path.exists():
      say(f'RAB: model {number + 1} of {config.models}')
      folder = scratch / f'member{number:05d}'
      made = _rab_member(lab, number, dataset.examples, data, patched, folder)
      files.write_arrays(path, made)
    finished.append(files.read_arrays(path))
  mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *finished)
  predicted, radius = rab.certify(
    mean['test'], config.models, sigma=config.sigma, alpha=config.alpha
  )
  certified = rab.certified_accuracy(
    predicted, radius, data.test.examples.labels, config.radii
  )
  return mean, {'certified_accuracy': certified}


def _rab_member(
  lab: Lab,
  number: int,
  examples: Examples,
  data: Data,
  patched: Dataset,
  folder: pathlib.Path,
) -> Answers:
  """Trains one of the models on pictures with noise of its own."""
  sigma = lab.config.defense.rab.sigma
  seed = seeds.child_seed(lab.config.seed, f'rab/{number}')

  def noised_training(rows: slice) -> np.ndarray:
    images = examples.images[rows]
    return rab.noised(images, sigma, seed, f'noise/{rows.start}')

  network = stages.recognizer_of(lab, len(examples.class_names))
  untrained, _ = network.network(lab.config.seed, examples.labels)
  variables, _ = stages.fit_recognizer(
    lab,
    untrained,
    _in_chunks(lab, len(examples), noised_training),
    examples.labels,
    seed=seed,
    scratch=folder,
    title='training a RAB model',
  )
  shape = examples.images.shape[1:]
  noise = rab.input_noise(shape, sigma, variables)

  def probabilities(images: np.ndarray) -> np.ndarray:
    inputs = _in_chunks(
      lab,
      len(images),
      lambda rows: images[rows].astype(np.float32) / 255 + noise,
    )
    logits = train.predict(
      network.logits, variables, inputs, lab.config.evaluation.batch_size
    )
    return np.asarray(jax.nn.softmax(logits))

  return {
    'test': probabilities(data.test.examples.images),
    'patched': probabilities(patched.examples.images),
  }


def _in_chunks(
  lab: Lab, count: int, noised: Callable[[slice], np.ndarray]
) -> np.ndarray:
  """The recognizer's inputs for noised pictures, made a few at a time."""
  return np.concatenate(
    [
      stages.inputs_of_pictures(
        lab, noised(slice(start, min(start + _CHUNK, count)))
      )
      for start in range(0, count, _CHUNK)
    ]
  )


def _fine_tune(
  lab: Lab,
  model: Model,
  inputs: np.ndarray,
  trusted: Examples,
  epochs: int,
  scratch: pathlib.Path,
  title: str,
) -> PyTree:
  """Goes on training a model on trusted pictures."""
  network, _ = stages.recognizer_of(lab, len(trusted.class_names)).network(
    lab.config.seed, trusted.labels
  )
  start = recognizer.matching(network.params, model.variables['params'])
  stats = model.variables['batch_stats']
  network = network._replace(params=start, stats=stats)
  spec = stages.train_spec(lab.config.fr)
  trained = train.fit(
    network,
    inputs,
    trusted.labels,
    dataclasses.replace(spec, epochs=epochs, batch_size=32),
    seed=lab.config.seed,
    folder=scratch / 'checkpoints',
    title=title,
  )
  return recognizer.trained_variables(network, trained.params, trained.stats)


def _by_fine_pruning(lab, model, data, patched, scratch):
  config = lab.config.defense.fine_pruning
  trusted = data.trusted.examples
  classes = len(trusted.class_names)
  channels = networks.ARCHITECTURES[lab.config.fr.model].channels
  features = stages.recognizer_inputs(lab, data.trusted)
  logits = parallel.mapped(stages.recognizer_of(lab, classes).logits, 1, 1)
  size = lab.config.evaluation.batch_size
  variables = parallel.replicate(model.variables)

  def accuracy(mask: np.ndarray) -> float:
    inputs = fine_pruning.masked(features, mask)
    found = parallel.map_batches(logits, variables, (inputs,), size)
    return float(np.mean(found.argmax(1) == trusted.labels))

  mask = fine_pruning.prune(
    features, channels, accuracy, largest_drop=config.largest_drop
  )
  variables = _fine_tune(
    lab,
    model,
    fine_pruning.masked(features, mask),
    trusted,
    config.epochs,
    scratch,
    'fine-pruning',
  )
  test, shown = (
    fine_pruning.masked(stages.recognizer_inputs(lab, dataset), mask)
    for dataset in (data.test, patched)
  )
  pruned = int((mask == 0).sum())
  answers = _answer(lab, variables, test, shown, classes)
  return answers, {'pruned_channels': pruned, 'channels': channels}


def _patches(
  reverser: neural_cleanse.Reverser,
  classes: int,
  rounds: int,
  scratch: pathlib.Path,
) -> list[neural_cleanse.Patch]:
  """A patch for each class; what a killed run has found is kept."""
  patches = []
  with progress_bar(classes * rounds, 'Neural Cleanse', 'round') as bar:
    for label in range(classes):
      path = scratch / f'patch{label:05d}.npz'
      if path.exists():
        bar.update(rounds)
      else:
        found = reverser.find(label, bar.update)
        files.write_arrays(path, found._asdict())
      arrays = files.read_arrays(path)
      size, success = float(arrays['size']), float(arrays['success'])
      patches.append(
        neural_cleanse.Patch(arrays['mask'], arrays['pattern'], size, success)
      )
  return patches


def _by_neural_cleanse(lab, model, data, patched, scratch):
  config = lab.config.defense.neural_cleanse
  trusted = data.trusted.examples
  classes = len(trusted.class_names)
  reverser = neural_cleanse.Reverser(
    flagging.suspect_of(lab, model, classes),
    trusted.images,
    rounds=config.rounds,
    batch_size=config.batch_size,
  )
  patches = _patches(reverser, classes, config.rounds, scratch)
  sizes = np.array([patch.size for patch in patches])
  labels = neural_cleanse.suspicious_labels(patches)
  found: dict[str, Any] = {
    'patch_sizes': sizes.tolist(),
    'success': [patch.success for patch in patches],
    'anomaly_indices': neural_cleanse.anomaly_indices(sizes).tolist(),
    'suspicious': [trusted.class_names[label] for label in labels],
  }
  variables = model.variables
  if len(labels):
    images = trusted.images.astype(np.float32) / 255
    rng = seeds.numpy_rng(lab.config.seed, 'unlearning')
    for label in labels:
      rows = rng.random(len(images)) < config.stamped_share
      images[rows] = neural_cleanse.stamp(images[rows], *patches[label][:2])
    variables = _fine_tune(
      lab,
      model,
      stages.inputs_of_pictures(lab, images),
      trusted,
      config.epochs,
      scratch,
      'unlearning',
    )
  test, shown = (stages.recognizer_inputs(lab, d) for d in (data.test, patched))
  return _answer(lab, variables, test, shown, classes), found


Made = tuple[Answers, dict[str, Any]]
TRAININGS: dict[str, Callable[..., Made]] = {
  'dp_instahide': _by_dp_instahide,
  'rab': _by_rab,
  'smoothing': _by_smoothing,
}
REPAIRS: dict[str, Callable[..., Made]] = {
  'fine_pruning': _by_fine_pruning,
  'neural_cleanse': _by_neural_cleanse,
}
