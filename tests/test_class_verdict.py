"""A class with too many flags is named; clean classes are not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from babam_jax.sanitizer import class_verdict


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 0.5))
def test_p_value_is_a_binomial_tail(flagged, others, rate):
  judged = flagged + others
  slow = sum(
    math.comb(judged, k) * rate**k * (1 - rate) ** (judged - k)
    for k in range(flagged, judged + 1)
  )
  found = class_verdict.p_value(flagged, judged, rate)
  assert found == pytest.approx(slow, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize('above', [0, 1, 20, 199])
def test_the_bound_is_where_so_few_become_improbable(above):
  """Clopper and Pearson: at the bound, at most `above` of 200 pictures score
  high with a probability of 5 %."""
  clean = np.sort(np.r_[np.zeros(200 - above), np.ones(above)])
  rate = class_verdict.highest_rate(0.5, clean)
  at_most = sum(
    math.comb(200, k) * rate**k * (1 - rate) ** (200 - k)
    for k in range(above + 1)
  )
  assert at_most == pytest.approx(0.05, abs=1e-6)
  assert rate > above / 200


def test_the_ends_of_the_bound():
  assert class_verdict.highest_rate(0.5, np.zeros(0)) is None
  assert class_verdict.highest_rate(-1.0, np.zeros(3)) == 1.0


def test_holm_by_hand():
  level = class_verdict.NAMED
  # The second passes only because the first has left the race.
  p_values = [0.9 * level, level / 3.1, 0.45 * level]
  assert class_verdict.named(p_values).tolist() == [True, True, True]
  p_values = [0.9 * level, level / 2.9, 0.45 * level]
  assert not class_verdict.named(p_values).any()
  assert class_verdict.named([]).tolist() == []


def test_clean_classes_are_not_named_and_poisoned_ones_are(rng):
  clean = np.sort(rng.random(2000))
  threshold = float(np.quantile(clean, 0.99))
  rate = class_verdict.highest_rate(threshold, clean)
  false = 0
  for _ in range(50):  # folders of a hundred classes of 30 pictures
    flagged = rng.binomial(30, 0.01, 100)
    flagged[0] = 10
    p_values = [class_verdict.p_value(int(k), 30, rate) for k in flagged]
    found = class_verdict.named(p_values)
    assert found[0]
    false += int(found[1:].sum())
  assert false <= 1


def test_flags_everywhere_are_no_attack(rng):
  """One victim in twenty classes, or noise in all of them."""
  rate = 0.014
  poisoned = [class_verdict.p_value(k, 30, rate) for k in [30] + [0] * 19]
  assert class_verdict.rate_holds(poisoned)
  noisy = [
    class_verdict.p_value(int(k), 30, rate) for k in rng.binomial(30, 0.3, 20)
  ]
  assert not class_verdict.rate_holds(noisy)
  assert class_verdict.rate_holds([0.0] * 3)  # too few to tell
