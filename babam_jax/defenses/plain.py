"""Plain training: no defense of its own."""

import dataclasses
from typing import ClassVar

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Trainer
from babam_jax.models import heads
from babam_jax.training import recognizer
from babam_jax.training.classifier import NetworkClassifier


@dataclasses.dataclass(frozen=True)
class Plain(Trainer):
  """Trains as the recognizer's settings say (paper 3.2)."""

  only_feeds: ClassVar[bool] = True

  def fit(self, context: Context, examples: Examples) -> NetworkClassifier:
    """Trains one network."""
    recognition = context.recognition
    classes = len(examples.class_names)
    model = recognition.recognizer(classes)
    network = model.network(context.seed, examples.labels)
    inputs = recognition.inputs(examples)
    if model.head == heads.NEAREST_MEAN:  # nothing trains
      means = recognizer.class_means(network, inputs, examples.labels)
      return NetworkClassifier(recognition, means, classes)
    variables, _ = recognition.fit(
      network,
      inputs,
      examples.labels,
      seed=context.seed,
      scratch=context.scratch,
      title='training',
      on_epoch=context.on_epoch,
    )
    return NetworkClassifier(recognition, variables, classes)
