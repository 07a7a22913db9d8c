"""What the PIRM's evidence is worth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babam_jax import errors
from babam_jax.defenses import calibration
from babam_jax.defenses.calibration import Calibration


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 3), st.floats(-2, 2), st.integers(0, 99))
def test_fitting_finds_what_made_the_evidence(slope, offset, seed):
  rng = np.random.default_rng(seed)
  evidence = rng.normal(0, 3, 20000)
  made = Calibration(slope, offset)
  poisoned = rng.random(20000) < calibration.probability(made, evidence)
  found = calibration.fit(evidence, poisoned)
  np.testing.assert_allclose(found, (slope, offset), atol=0.15, rtol=0.1)


def test_fitting_is_the_best_on_a_grid(rng):
  """Against plain search."""
  evidence = rng.normal(1, 5, 300)
  poisoned = rng.random(300) < 0.5 + 0.4 * np.tanh(evidence)

  def loss(slope, offset):
    chance = calibration.probability(Calibration(slope, offset), evidence)
    chance = np.where(poisoned, chance, 1 - chance)
    return -np.log(np.maximum(chance, 1e-12)).mean()

  best = loss(*calibration.fit(evidence, poisoned))
  grid = [
    loss(slope, offset)
    for slope in np.linspace(0, 3, 61)
    for offset in np.linspace(-3, 3, 61)
  ]
  assert best <= min(grid) + 1e-4


@pytest.mark.parametrize('far', [1.0, 1e4])
def test_fitting_evidence_that_divides_perfectly(far):
  evidence = far * np.array([-2.0, -1.0, 1.0, 2.0])
  slope, offset = calibration.fit(evidence, evidence > 0)
  assert np.isfinite([slope, offset]).all() and slope > 0
  scores = calibration.probability(Calibration(slope, offset), evidence)
  assert ((scores > 0.5) == (evidence > 0)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 500), st.floats(0.001, 0.999), st.integers(0, 99))
def test_a_threshold_keeps_its_rate(count, fpr, seed):
  """Of n + 1 pictures, each as likely to be the one that is judged by the
  others, at most a share of `fpr` is flagged, and the most that can be."""
  rng = np.random.default_rng(seed)
  scores = rng.random(count + 1)
  flagged = 0
  for judged in range(count + 1):
    clean = np.sort(np.delete(scores, judged))
    known = Calibration(1.0, 0.0, clean)
    if not 1 <= int(fpr * (count + 1)) <= count:
      with pytest.raises(errors.UserError, match='--fpr'):
        calibration.threshold(known, fpr)
      return
    flagged += scores[judged] > calibration.threshold(known, fpr)
  assert fpr * (count + 1) - 1 < flagged <= fpr * (count + 1)


def test_no_threshold_without_clean_pictures():
  with pytest.raises(errors.UserError, match='--threshold'):
    calibration.threshold(Calibration(), 0.01)


def test_a_threshold_is_said_or_follows_from_a_rate():
  known = Calibration(1.0, 0.0, np.arange(1000) / 1000)
  chosen = calibration.choose_threshold
  assert chosen(known, None, None).fpr == calibration.DEFAULT_FPR
  found = chosen(known, None, 0.1)
  assert found == (calibration.threshold(known, 0.1), 0.1)
  assert chosen(known, 0.7, None) == (0.7, None)
  unknown = chosen(Calibration(), None, None)
  assert unknown == (calibration.UNCALIBRATED, None)
  for wrong in ((0.5, 0.1), (2, None), (float('nan'), None), (None, -1)):
    with pytest.raises(errors.UserError, match='^(fpr|threshold): found'):
      chosen(known, *wrong, prefix='')


def test_reliability_of_a_known_case():
  scores = np.array([0.02, 0.04, 0.55, 0.55, 1.0])
  poisoned = np.array([False, False, True, False, True])
  bins = calibration.reliability(scores, poisoned)
  assert [b.count for b in bins] == [2, 2, 1]
  np.testing.assert_allclose([b.score for b in bins], [0.03, 0.55, 1.0])
  assert [b.poisoned for b in bins] == [0.0, 0.5, 1.0]
  found = calibration.calibration_error(bins)
  assert found == pytest.approx((2 * 0.03 + 2 * 0.05 + 0) / 5)
