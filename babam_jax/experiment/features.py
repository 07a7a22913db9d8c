"""What recognizers take: with a frozen trunk, its features of each picture,
made once and shared by all models."""

import pathlib
from collections.abc import Callable

import numpy as np

from babam_jax import files
from babam_jax.config.schema import Experiment
from babam_jax.data.examples import Examples
from babam_jax.models.pretrained import weights
from babam_jax.progress import progress_bar
from babam_jax.store.artifacts import Artifact
from babam_jax.store.lab import Dataset, Lab, Source, read_examples
from babam_jax.store.stage import Stage
from babam_jax.training.recognition import Inputs, Recognition

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
