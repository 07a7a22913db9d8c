"""The model that an attacker trains for himself, as he expects the victim."""

import pathlib

import numpy as np

from babam_jax import seeds
from babam_jax.attacks.base import Knowledge, Pictures
from babam_jax.attacks.gradient_matching import Trained


def train(
  known: Knowledge, poison: Pictures, seed: int, folder: pathlib.Path
) -> Trained:
  """Trains a model on the training set and poison with the victim's label.

  Args:
    known: what the attacker knows.
    poison: what he has made so far; there may be none.
    seed: the seed of the attack.
    folder: for checkpoints.
  """
  training_set, recognition = known.training_set, known.recognition
  own = seeds.child_seed(seed, 'the own model of the attacker')
  images = np.concatenate([training_set.images, poison])
  poison_labels = np.full(len(poison), known.label, np.int32)
  labels = np.concatenate([training_set.labels, poison_labels])
  model = recognition.recognizer(len(training_set.class_names))
  network = model.network(own, labels)
  variables, _ = recognition.fit(
    network,
    recognition.inputs_of(images),
    labels,
    seed=own,
    scratch=folder,
    title="training the attacker's model",
  )
  return Trained(*model.in_training(variables, seed, labels))
