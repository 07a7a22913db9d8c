import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from babam_jax.evaluation import metrics, statistics, table


def test_wilson_interval_against_published_values():
  # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
  for hits, count, low, high in (
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
  ):
    found = statistics.wilson_interval(hits / count, count)
    assert found == pytest.approx((low, high), abs=1e-4)


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_interval_holds_the_rate(hits, count):
  rate = min(hits, count) / count
  low, high = statistics.wilson_interval(rate, count)
  assert 0 <= low <= rate + 1e-12 and rate - 1e-12 <= high <= 1


SCORES = st.integers(2, 20).flatmap(
  lambda n: st.tuples(
    hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    hnp.arrays(bool, n),
  )
)


@given(SCORES)
def test_auroc_is_the_share_of_ordered_pairs(case):
  scores, positive = case
  pairs = [
    1.0 if a > b else 0.5 if a == b else 0.0
    for a in scores[positive]
    for b in scores[~positive]
  ]
  found = statistics.auroc(scores, positive)
  if pairs:
    assert found == pytest.approx(np.mean(pairs))
    fpr, tpr = statistics.roc_curve(scores, positive)
    assert np.trapezoid(tpr, fpr) == pytest.approx(found)
    assert (tpr[-1], fpr[-1]) == (1, 1)
  else:
    assert np.isnan(found)


ALL = np.arange(3)


def one_hot(labels, classes=3):
  return np.eye(classes)[labels]


def test_model_metrics_by_hand():
  found = metrics.model_metrics(
    metrics.Answers(
      test=metrics.answers_of(one_hot([0, 1, 2, 2, 1]), ALL),
      labels=np.array([0, 1, 2, 0, 2]),
      patched=metrics.answers_of(one_hot([2, 2, 1, 2, 0, 2]), ALL),
      unpatched=metrics.answers_of(one_hot([1, 2]), ALL),
      source=1,
      target=2,
    )
  )
  assert found['accuracy'] == 0.6
  assert found['victim_recognized'] == 0.5
  assert found['victim_recognized_ci'] == statistics.wilson_interval(0.5, 2)
  assert found['asr'] == pytest.approx(4 / 6)
  assert found['asr_unpatched'] == 0.5
  assert found['source_accuracy_patched'] == pytest.approx(1 / 6)
  # two pictures at three positions: two trials, not six
  assert found['asr_ci'] == statistics.wilson_interval(4 / 6, 2)


def test_what_is_refused_is_taken_for_nobody():
  said = metrics.answers_of(
    one_hot([2, 2, 1]), ALL, np.array([True, False, False])
  )
  assert said.tolist() == [-1, 2, 1]


def test_another_metric_needs_one_line(monkeypatch):
  """It stands in metrics.json, in the table, and has its interval."""
  metric = metrics.Metric('mistaken %', lambda a: 0.25, 'test_pictures')
  monkeypatch.setitem(metrics.MODEL_METRICS, 'mistaken', metric)
  classes = np.array([0, 1])
  answers = metrics.Answers(classes, classes, classes, classes, 0, 1)
  found = metrics.model_metrics(answers)
  assert found['mistaken'] == 0.25
  assert found['mistaken_ci'] == statistics.wilson_interval(0.25, 2)
  (row,) = table.model_rows({'models': {'clean': found}})
  assert row[-1].startswith('25.0 [')


def test_detection_metrics_by_hand():
  found = metrics.detection_metrics(
    np.array([0.9, 0.2, 0.8, 0.1]), np.array([True, True, False, False]), 0.5
  )
  assert found == {
    'accuracy': 0.5,
    'tpr': 0.5,
    'fpr': 0.5,
    'auroc': 0.75,
    'num_poisoned': 2,
    'num_clean': 2,
  }
  empty = metrics.detection_metrics(np.array([0.9]), np.array([False]), 0.5)
  assert empty['tpr'] is None and empty['auroc'] is None
