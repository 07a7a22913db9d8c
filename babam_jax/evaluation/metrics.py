"""The metrics of the paper: accuracy, attack success, detection."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from babam_jax.defenses.suspect import Verdict
from babam_jax.evaluation.statistics import auroc, wilson_interval

_REFUSED = -1  # the class of a refused input
Logits = Float[np.ndarray, 'n c']
Classes = Int[np.ndarray, ' n']


class Answers(NamedTuple):
  """A recognizer's answers to the test pictures, with and without the trigger.

  A refused input has the class -1.

  Attributes:
    test: the classes that all test pictures are taken for.
    labels: their true classes.
    patched: the classes of the attacker's test pictures with the trigger,
      several positions for each picture.
    unpatched: the classes of the same pictures without it.
    source: the attacker's class.
    target: the victim's class.
  """

  test: Classes
  labels: Classes
  patched: Classes
  unpatched: Classes
  source: int
  target: int


class Metric(NamedTuple):
  """A rate that a recognizer is judged by.

  Attributes:
    heading: the heading of its column in tables.
    measure: computes the rate, from 0 to 1.
    trials: the name of the count in `metrics.json` of independent pictures
      behind the rate, for intervals; '' if there is none.
  """

  heading: str
  measure: Callable[[Answers], float]
  trials: str = ''


def _accuracy(answers: Answers) -> float:
  return float(np.mean(answers.test == answers.labels))


def _attack_success(answers: Answers) -> float:
  """Eq. 6: the share of patched pictures that are taken for the victim."""
  return float(np.mean(answers.patched == answers.target))


def _base_rate(answers: Answers) -> float:
  """The same without the trigger (Table 4)."""
  return float(np.mean(answers.unpatched == answers.target))


def _source_recognized(answers: Answers) -> float:
  return float(np.mean(answers.patched == answers.source))


def _victim_recognized(answers: Answers) -> float:
  """The share of the victim's test pictures that are taken for the victim."""
  of_victim = answers.labels == answers.target
  return float(np.mean(answers.test[of_victim] == answers.target))


# By their names in `metrics.json`. Positions on one picture are not
# independent: the attack's trials are pictures, not positions.
MODEL_METRICS: dict[str, Metric] = {
  'accuracy': Metric('accuracy %', _accuracy, 'test_pictures'),
  'asr': Metric('ASR %', _attack_success, 'source_test_pictures'),
  'asr_unpatched': Metric(
    'no-patch base %', _base_rate, 'source_test_pictures'
  ),
  'victim_recognized': Metric(
    'victim recognized %', _victim_recognized, 'target_test_pictures'
  ),
  'source_accuracy_patched': Metric(
    'patched source recognized %', _source_recognized
  ),
}


def answers_of(
  logits: Logits,
  enrolled: Int[np.ndarray, ' e'],
  refused: Bool[np.ndarray, ' n'] | None = None,
) -> Classes:
  """The class that each picture is taken for; -1 where it is refused.

  Args:
    logits: those of the pictures.
    enrolled: the classes that are answers: nobody is taken for one without
      training pictures, such as a stranger's.
    refused: which of the pictures an input check refuses; None: none.
  """
  classes = enrolled[logits[:, enrolled].argmax(1)]
  return classes if refused is None else np.where(refused, _REFUSED, classes)


def model_metrics(answers: Answers) -> dict[str, Any]:
  """The metrics of a recognizer, with and without the trigger.

  Returns:
    All of `MODEL_METRICS`; of those with trials also the Wilson 95 % intervals,
    as `<name>_ci`; and the numbers of test pictures, and of those that show
    the attacker and the victim.
  """
  counts = {
    'test_pictures': len(answers.test),
    'source_test_pictures': len(answers.unpatched),
    'target_test_pictures': int((answers.labels == answers.target).sum()),
  }
  found: dict[str, Any] = {}
  for name, metric in MODEL_METRICS.items():
    rate = metric.measure(answers)
    found[name] = rate
    if metric.trials:
      found[f'{name}_ci'] = wilson_interval(rate, counts[metric.trials])
  return found | counts


def accuracy_drop(models: dict[str, dict[str, Any]]) -> float | None:
  """What the defense costs: the clean model's accuracy less the protected
  one's; None if one of them was not trained."""
  if not {'clean', 'protected'} <= models.keys():
    return None
  return models['clean']['accuracy'] - models['protected']['accuracy']


def defense_effectiveness(models: dict[str, dict[str, Any]]) -> float | None:
  """BackdoorBench's DER (Wu et al. 2022): (fall of the ASR - fall of
  the accuracy + 1) / 2, which is 0.5 for no defense, 1 for a perfect one.
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
  """How well scores above `threshold` mark the poison (Table 6).

  Rates of an empty class are None.
  """
  return flag_metrics(Verdict(scores, scores > threshold), poisoned)


def flag_metrics(
  verdict: Verdict, poisoned: Bool[np.ndarray, ' n']
) -> dict[str, Any]:
  """How well flags, and the scores behind them, mark the poison."""
  flags = verdict.flags
  area = auroc(verdict.scores, poisoned)
  return {
    'accuracy': float(np.mean(flags == poisoned)),
    'tpr': float(flags[poisoned].mean()) if poisoned.any() else None,
    'fpr': float(flags[~poisoned].mean()) if (~poisoned).any() else None,
    'auroc': None if np.isnan(area) else area,
    'num_poisoned': int(poisoned.sum()),
    'num_clean': int((~poisoned).sum()),
  }
