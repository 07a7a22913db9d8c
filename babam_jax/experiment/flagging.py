"""Who flags training pictures: the PIRM, the ground truth, or one of the other
defenses, which look at the model that was trained on all of them."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from babam_jax import files
from babam_jax.data.examples import Examples
from babam_jax.defenses import (
  activation_clustering,
  deep_knn,
  rap,
  spectral_signatures,
  strip,
)
from babam_jax.defenses.suspect import Suspect, Verdict
from babam_jax.experiment import stages
from babam_jax.experiment.lab import Dataset, Lab
from babam_jax.experiment.stages import Data, Model, Scores
from babam_jax.progress import progress_bar
from babam_jax.store.artifacts import Artifact
from babam_jax.training import train


class Flags(NamedTuple):
  """Which training pictures are taken for poison.

  Attributes:
    flags: as `config.defense.flags` has it.
    scores: the higher, the more like poison; by the same.
    artifact: what they are made from.
  """

  flags: Bool[np.ndarray, ' n']
  scores: Float[np.ndarray, ' n']
  artifact: Artifact


def flag(lab: Lab, scored: Scores, untrusted: Dataset, data: Data) -> Flags:
  """Flags training pictures (Algorithm 2, line 3)."""
  by = lab.config.defense.flags
  examples = untrusted.examples
  if by in DETECTORS:
    return _detect(lab, by, untrusted, data)
  flags, scores = scored.train > lab.config.pirm.threshold, scored.train
  if by == 'oracle':
    flags = examples.poisoned
  if by == 'victim':
    flags = examples.labels == data.scenario.target_label
  if by != 'pirm':  # a verdict without a rank
    scores = flags.astype(np.float64)
  return Flags(flags, scores, scored.artifact)


def suspect_of(lab: Lab, model: Model, num_classes: int) -> Suspect:
  """A trained model, from pictures to logits."""
  network = stages.recognizer_of(lab, num_classes)
  whole = network.whole(model.variables, lab.config.seed)
  return Suspect(network.logits_of_pictures, whole)


def activations(
  lab: Lab, model: Model, dataset: Dataset
) -> Float[np.ndarray, 'n d']:
  """A model's last hidden layer."""
  network = stages.recognizer_of(lab, len(dataset.examples.class_names))
  return train.predict(
    network.activations,
    model.variables,
    stages.recognizer_inputs(lab, dataset),
    lab.config.evaluation.batch_size,
  )


def _by_activation_clustering(lab, model, untrusted, data) -> Verdict:
  del data
  return activation_clustering.detect(
    activations(lab, model, untrusted),
    untrusted.examples.labels,
    **lab.config.defense.activation_clustering,
    seed=lab.config.seed,
  )


def _by_spectral_signatures(lab, model, untrusted, data) -> Verdict:
  del data
  return spectral_signatures.detect(
    activations(lab, model, untrusted),
    untrusted.examples.labels,
    **lab.config.defense.spectral_signatures,
  )


def _by_deep_knn(lab, model, untrusted, data) -> Verdict:
  del data
  return deep_knn.detect(
    activations(lab, model, untrusted),
    untrusted.examples.labels,
    **lab.config.defense.deep_knn,
  )


def _by_strip(lab, model, untrusted, data) -> Verdict:
  return strip_pictures(lab, model, untrusted.examples, data)


def _by_rap(lab, model, untrusted, data) -> Verdict:
  return rap_pictures(lab, model, untrusted.examples, data)


def strip_pictures(
  lab: Lab, model: Model, examples: Examples, data: Data
) -> Verdict:
  """STRIP's verdict on pictures; trusted ones set its threshold."""
  config = lab.config.defense.strip
  trusted = data.trusted.examples
  suspect = suspect_of(lab, model, len(examples.class_names))
  total = len(examples) + len(trusted)
  with progress_bar(total, 'STRIP', 'img') as bar:

    def entropies(images: np.ndarray) -> np.ndarray:
      return strip.entropies(
        suspect,
        images,
        trusted.images,
        count=config.overlays,
        weight=config.weight,
        seed=lab.config.seed,
        on_batch=bar.update,
      )

    return strip.judge(
      entropies(examples.images),
      entropies(trusted.images),
      false_rejections=config.false_rejections,
    )


def rap_pictures(
  lab: Lab, model: Model, examples: Examples, data: Data
) -> Verdict:
  """RAP's verdict on pictures; it protects the victim's class."""
  config = lab.config.defense.rap
  label = data.scenario.target_label
  suspect = suspect_of(lab, model, len(examples.class_names))
  known = data.trusted.examples
  known = known.images[known.labels == label]
  size = lab.config.evaluation.batch_size
  with progress_bar(config.steps, 'RAP: learning', 'step') as bar:
    pattern = rap.learn(
      suspect,
      known,
      label,
      eps=config.eps,
      steps=config.steps,
      seed=lab.config.seed,
      on_step=bar.update,
    )
  with progress_bar(len(examples), 'RAP', 'img') as bar:
    drops = rap.measure(
      suspect, examples.images, pattern, label, size, bar.update
    )
  return rap.judge(
    drops,
    rap.measure(suspect, known, pattern, label, size),
    false_rejections=config.false_rejections,
  )


DETECTORS: dict[str, Callable[[Lab, Model, Dataset, Data], Verdict]] = {
  'activation_clustering': _by_activation_clustering,
  'spectral_signatures': _by_spectral_signatures,
  'deep_knn': _by_deep_knn,
  'strip': _by_strip,
  'rap': _by_rap,
}


def _detect(lab: Lab, by: str, untrusted: Dataset, data: Data) -> Flags:
  """Stage: one of the other detectors, on the model under attack."""
  model = stages.train_recognizer(lab, 'malicious', untrusted)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    verdict = DETECTORS[by](lab, model, untrusted, data)
    files.write_arrays(output / 'verdict.npz', verdict._asdict())

  depends = lab.config.defense[by].to_dict() | {'seed': lab.config.seed}
  inputs = [model.artifact, *untrusted.inputs, *data.trusted.inputs]
  artifact = lab.store.stage(f'flags/{by}', 1, depends, inputs, compute)
  found = artifact.arrays('verdict')
  return Flags(found['flags'], found['scores'], artifact)
