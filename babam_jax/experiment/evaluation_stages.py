"""The judgment: the attacker shows the trigger (paper 4.5), and the PIRM's
scores are held against the truth (4.10)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from babam_jax.defenses import pirm
from babam_jax.evaluation import metrics
from babam_jax.experiment import stages
from babam_jax.experiment.flagging import Flags
from babam_jax.experiment.input_checks import Refused
from babam_jax.experiment.lab import (
  Dataset,
  Lab,
)
from babam_jax.experiment.stages import Data, Model, Scores
from babam_jax.training import train


def evaluate(
  lab: Lab,
  model: Model,
  data: Data,
  patched: Dataset,
  refused: Refused | None = None,
) -> dict[str, Any]:
  """Accuracy and attack success of one model (paper 4.5).

  Args:
    lab: config, store and working folder.
    model: the model.
    data: with the test pictures.
    patched: those of the source, with the trigger.
    refused: which of both a check of inputs does not let pass.
  """
  test = data.test
  answers = model.answers
  if answers is None:
    logits = predictor(lab, model, len(test.examples.class_names))
    answers = {
      'test': logits(stages.recognizer_inputs(lab, test)),
      'patched': logits(stages.recognizer_inputs(lab, patched)),
    }
  is_source = np.isin(test.examples.ids, data.scenario.source_test.ids)
  masks = {}
  if refused is not None:
    masks['test_refused'] = refused.test
    masks['patched_refused'] = refused.patched
    masks['source_refused'] = refused.test[is_source]
  return metrics.model_metrics(
    answers['test'],
    test.examples.labels,
    answers['patched'],
    answers['test'][is_source],
    data.scenario.source_label,
    data.scenario.target_label,
    **masks,
  )


def predictor(
  lab: Lab, model: Model, num_classes: int
) -> Callable[[np.ndarray], Float[np.ndarray, 'n c']]:
  """`inputs -> logits` of a trained model."""
  net = stages.recognizer_of(lab, num_classes)
  return lambda inputs: train.predict(
    net.logits, model.variables, inputs, lab.config.evaluation.batch_size
  )


def evaluate_pirm(
  lab: Lab,
  detector: pirm.Pirm,
  scored: Scores,
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
    'holdout': detector.meta.get('holdout'),
    'training_set': metrics.detection_metrics(
      scored.train, untrusted.examples.poisoned, threshold
    ),
    'test_set': metrics.detection_metrics(
      scored.test, data.test.examples.poisoned, threshold
    ),
  }


def evaluate_defense(
  lab: Lab, flagged: Flags, untrusted: Dataset, refused: Refused | None
) -> dict[str, Any]:
  """How well the defense, whoever it is, tells an attack from what is clean.

  Args:
    lab: config, store and working folder.
    flagged: what it flags in the training set.
    untrusted: the training set.
    refused: what it refuses of test inputs, if it checks them: then the
      attacker's patched pictures are the attack, the test pictures clean.

  Returns:
    As `metrics.flag_metrics`; figures are None where nothing is flagged by
    plan: detection is no part of the defense.
  """
  if refused is not None:
    flags = np.concatenate([refused.test, refused.patched])
    attacks = np.arange(len(flags)) >= len(refused.test)
    return metrics.flag_metrics(refused.scores, flags, attacks)
  found = metrics.flag_metrics(
    flagged.scores, flagged.flags, untrusted.examples.poisoned
  )
  if lab.config.defense.action == 'none':
    return dict.fromkeys(found)
  return found
