"""The figures of the paper: accuracy, attack success, detection."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int32

from babam_jax.evaluation.statistics import auroc, wilson_interval

_REFUSED = -1  # the class of an input that is not let pass


def model_metrics(
  test: Float[np.ndarray, 'n c'],
  test_labels: Int32[np.ndarray, ' n'],
  source_patched: Float[np.ndarray, 'm c'],
  source_unpatched: Float[np.ndarray, 'k c'],
  source_label: int,
  target_label: int,
  *,
  test_refused: Bool[np.ndarray, ' n'] | bool = False,
  patched_refused: Bool[np.ndarray, ' m'] | bool = False,
  source_refused: Bool[np.ndarray, ' k'] | bool = False,
) -> dict[str, Any]:
  """How a recognizer does, with and without the trigger.

  Args:
    test: logits of all test pictures.
    test_labels: their classes.
    source_patched: logits of the source's test pictures with the trigger,
      several positions for each picture.
    source_unpatched: logits of the same pictures without it.
    source_label: the attacker's class.
    target_label: the victim's class.
    test_refused: test pictures that a check of inputs does not let pass:
      neither right nor taken for anybody.
    patched_refused: the same for `source_patched`.
    source_refused: the same for `source_unpatched`.

  Returns:
    `accuracy`; `asr` (Eq. 6); `asr_unpatched`, the base rate (Table 4);
    `source_accuracy_patched`; how many test pictures there are, and how many
    show the source. Intervals are Wilson 95 %; that of `asr` counts
    pictures, not patch positions: positions on one picture are not
    independent.
  """
  predicted = np.where(test_refused, _REFUSED, test.argmax(1))
  accuracy = float(np.mean(predicted == test_labels))
  patched = np.where(patched_refused, _REFUSED, source_patched.argmax(1))
  asr = float(np.mean(patched == target_label))
  unpatched = np.where(source_refused, _REFUSED, source_unpatched.argmax(1))
  base = float(np.mean(unpatched == target_label))
  return {
    'accuracy': accuracy,
    'accuracy_ci': wilson_interval(accuracy, len(test)),
    'asr': asr,
    'asr_ci': wilson_interval(asr, len(source_unpatched)),
    'asr_unpatched': base,
    'asr_unpatched_ci': wilson_interval(base, len(source_unpatched)),
    'source_accuracy_patched': float(np.mean(patched == source_label)),
    'test_pictures': len(test),
    'source_test_pictures': len(source_unpatched),
  }


def accuracy_drop(models: dict[str, dict[str, Any]]) -> float | None:
  """What the defense costs: the clean model's accuracy less the protected
  one's; None if one of them was not trained."""
  if not {'clean', 'protected'} <= models.keys():
    return None
  return models['clean']['accuracy'] - models['protected']['accuracy']


def defense_effectiveness(models: dict[str, dict[str, Any]]) -> float | None:
  """BackdoorBench's DER (Wu et al. 2022): half of what the ASR falls by, less
  what the accuracy falls by, plus 1: 0.5 for no defense, 1 for a perfect one.
  None if one of the two models was not trained."""
  if not {'malicious', 'protected'} <= models.keys():
    return None
  malicious, protected = models['malicious'], models['protected']
  gain = max(0, malicious['asr'] - protected['asr'])
  cost = max(0, malicious['accuracy'] - protected['accuracy'])
  return (gain - cost + 1) / 2


def detection_metrics(
  scores: Float[np.ndarray, ' n'],
  poisoned: Bool[np.ndarray, ' n'],
  threshold: float,
) -> dict[str, Any]:
  """How well scores above `threshold` mark what is poisoned (Table 6).

  Rates of an empty class are None.
  """
  return flag_metrics(scores, scores > threshold, poisoned)


def flag_metrics(
  scores: Float[np.ndarray, ' n'],
  flags: Bool[np.ndarray, ' n'],
  poisoned: Bool[np.ndarray, ' n'],
) -> dict[str, Any]:
  """How well `flags`, and the scores behind them, mark what is poisoned."""
  area = auroc(scores, poisoned)
  return {
    'accuracy': float(np.mean(flags == poisoned)),
    'tpr': float(flags[poisoned].mean()) if poisoned.any() else None,
    'fpr': float(flags[~poisoned].mean()) if (~poisoned).any() else None,
    'auroc': None if np.isnan(area) else area,
    'num_poisoned': int(poisoned.sum()),
    'num_clean': int((~poisoned).sum()),
  }
