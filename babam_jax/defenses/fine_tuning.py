"""Training a model further on trusted pictures, as some repairs do."""

import numpy as np
from jaxtyping import PyTree

from babam_jax.defenses.base import Context
from babam_jax.training import recognizer
from babam_jax.training.classifier import NetworkClassifier

_BATCH_SIZE = 32  # trusted pictures are few


def fine_tune(
  context: Context,
  classifier: NetworkClassifier,
  inputs: np.ndarray,
  *,
  epochs: int,
  title: str,
) -> PyTree:
  """Trains a model further, and returns its variables.

  Args:
    context: has the trusted pictures and their labels.
    classifier: the model to start from.
    inputs: the model's inputs for the trusted pictures, in their order.
    epochs: passes over these.
    title: for the progress bar.
  """
  labels = context.trusted.labels
  context.meter.count(epochs * len(labels), beforehand=True)
  network = classifier.recognizer.network(context.seed, labels)
  network = network._replace(
    params=recognizer.matching(network.params, classifier.variables['params']),
    stats=classifier.variables['batch_stats'],
  )
  variables, _ = context.recognition.fit(
    network,
    inputs,
    labels,
    seed=context.seed,
    scratch=context.scratch,
    title=title,
    epochs=epochs,
    batch_size=_BATCH_SIZE,
  )
  return variables
