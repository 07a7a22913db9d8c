"""The judgement: the attacker shows the trigger (paper 4.5), and the PIRM's
scores are held against the truth (4.10)."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from babam_jax import seeds
from babam_jax.attack import trigger
from babam_jax.data.examples import Examples
from babam_jax.defense import pirm
from babam_jax.evaluation import metrics
from babam_jax.experiment import stages
from babam_jax.experiment.artifacts import Artifact
from babam_jax.experiment.lab import (
  Dataset,
  Lab,
  Source,
  read_examples,
  write_examples,
)
from babam_jax.experiment.stages import Data, Flags, Model
from babam_jax.training import train


def patch_test_pictures(lab: Lab, data: Data) -> Dataset:
  """Stage: the attacker shows the trigger, at several random positions for
  each of the source's test pictures (paper 4.5)."""
  config = lab.config.evaluation
  source_test = data.scenario.source_test

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    rows = np.repeat(np.arange(len(source_test)), config.positions)
    patch = trigger.make_trigger(
      lab.config.seed, lab.config.attack.trigger_size
    )
    corners = trigger.random_corners(
      seeds.numpy_rng(lab.config.seed, 'test positions'),
      len(rows),
      lab.config.data.size,
      len(patch),
    )
    write_examples(
      output,
      'patched',
      Examples(
        images=trigger.stamp(source_test.images[rows], patch, corners),
        labels=source_test.labels[rows],
        ids=np.array(
          [f'{source_test.ids[row]}@{n}' for n, row in enumerate(rows)]
        ),
        class_names=source_test.class_names,
        poisoned=source_test.poisoned[rows],
      ),
    )

  depends = {
    'positions': config.positions,
    'trigger_size': lab.config.attack.trigger_size,
    'seed': lab.config.seed,
  }
  artifact = lab.store.stage('patched', 1, depends, data.test.inputs, compute)
  source = Source(artifact, 'patched')
  return Dataset(read_examples(source), (source,))


def evaluate(
  lab: Lab, model: Model, data: Data, patched: Dataset
) -> dict[str, Any]:
  """Accuracy and attack success of one model (paper 4.5)."""
  test = data.test
  logits = predictor(lab, model, len(test.examples.class_names))
  test_logits = logits(stages.recognizer_inputs(lab, test))
  is_source = np.isin(test.examples.ids, data.scenario.source_test.ids)
  return metrics.model_metrics(
    test_logits,
    test.examples.labels,
    logits(stages.recognizer_inputs(lab, patched)),
    test_logits[is_source],
    data.scenario.source_label,
    data.scenario.target_label,
  )


def predictor(
  lab: Lab, model: Model, num_classes: int
) -> Callable[[np.ndarray], Float[np.ndarray, 'n c']]:
  """`inputs -> logits` of a trained model."""
  net = stages.recognizer_of(lab, num_classes)
  return lambda inputs: train.predict(
    net.logits, model.variables, inputs, lab.config.evaluation.batch_size
  )


def evaluate_detection(
  lab: Lab,
  detector: tuple[pirm.Pirm, Artifact],
  flagged: Flags,
  untrusted: Dataset,
  data: Data,
) -> dict[str, Any]:
  """How well the PIRM's scores tell poison from clean pictures (Table 6).

  Returns:
    Rates on the untrusted training set, on the clean test set, and, as it was
    measured when the PIRM was trained, on natural images held out.
  """
  threshold = lab.config.pirm.threshold
  return {
    'holdout': detector[0].meta.get('holdout'),
    'training_set': metrics.detection_metrics(
      flagged.scores, untrusted.examples.poisoned, threshold
    ),
    'test_set': metrics.detection_metrics(
      flagged.test_scores, data.test.examples.poisoned, threshold
    ),
  }
