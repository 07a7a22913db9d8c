"""A class with too many flags is named; clean classes are not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from babam_jax.sanitizer import class_verdict, folder_scores


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 0.5))
def test_p_value_is_a_binomial_tail(flagged, others, rate):
  judged = flagged + others
  slow = sum(
    math.comb(judged, k) * rate**k * (1 - rate) ** (judged - k)
    for k in range(flagged, judged + 1)
  )
  counts = np.array([flagged]), np.array([judged])
  (found,) = class_verdict.p_values(*counts, rate)
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
  assert class_verdict.highest_rate(-1.0, np.zeros(3)) == 1.0


def test_holm_by_hand():
  level = class_verdict.NAMED
  # The second passes only because the first has left the race.
  p_values = [0.9 * level, level / 3.1, 0.45 * level]
  assert class_verdict.named(np.array(p_values)).tolist() == [True, True, True]
  p_values = [0.9 * level, level / 2.9, 0.45 * level]
  assert not class_verdict.named(np.array(p_values)).any()
  assert class_verdict.named(np.zeros(0)).tolist() == []


@pytest.fixture
def known(rng):
  """A threshold, its rate and no ordinary score, of a PIRM whose clean pictures
  score normally, in log-odds around -4."""
  clean = np.sort(log_odds_to_score(rng.normal(size=5000)))
  threshold = float(np.quantile(clean, 0.99))
  rate = class_verdict.highest_rate(threshold, clean)
  return threshold, rate, 0.0


def log_odds_to_score(values):
  return special.expit(np.asarray(values) - 4)


def scored(classes):
  """A folder with the scores of each class."""
  found = folder_scores.FolderScores()
  for number, scores in enumerate(classes):
    found.add(f'p{number}', scores)
  return found


def judged(values, known):
  """The verdicts on classes of pictures with these log-odds, less 4."""
  return class_verdict.judge(scored(log_odds_to_score(values)), *known)


def test_scores_are_counted_class_by_class():
  found = scored([[0.1, 0.9], [], [0.5], [0.9, 0.9, 0.2]])
  assert found.names == ['p0', 'p1', 'p2', 'p3']
  assert found.sizes.tolist() == [2, 0, 1, 3]
  assert found.classes.tolist() == [0, 0, 2, 3, 3, 3]
  assert found.above(0.5).tolist() == [1, 0, 0, 2]
  assert scored([]).above(0.5).tolist() == []


@given(
  st.lists(st.lists(st.floats(0, 1), max_size=6), max_size=8),
  st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)
def test_quantiles_of_classes_are_those_of_numpy(classes, share):
  (found,) = scored(classes).quantiles(share)
  for mine, scores in zip(found, classes, strict=True):
    if scores:
      odds = folder_scores.log_odds(np.array(scores))
      assert mine == pytest.approx(np.quantile(odds, share), abs=1e-9)
    else:
      assert np.isnan(mine)


def test_higher_than_the_others_by_hand(rng):
  """Of eight classes two may stand out: the highest is compared with seven, the
  next one with six; whoever is higher than one that stands out does so, too."""
  middle = rng.normal(0, 2, 8)
  classes = [log_odds_to_score([m] * 5) for m in middle]
  found = class_verdict.higher_than_the_others(
    scored([*classes, [], [0.9] * 4]), 0.5, 0.0
  )

  def slow(one, others):
    spread = others.std(ddof=1) * math.sqrt(1 + 1 / len(others))
    return stats.t.sf((one - others.mean()) / spread, len(others) - 1)

  first, second, *rest = np.argsort(-middle)
  lower = slow(middle[second], middle[rest])
  higher = slow(middle[first], middle[[second, *rest]])
  expected = np.ones(10)
  expected[[first, second]] = min(higher, lower), lower
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_is_ordinary_does_not_stand_out(rng):
  classes = [log_odds_to_score(rng.normal(-3, 0.3, 20)) for _ in range(12)]
  classes[4] = log_odds_to_score(rng.normal(0, 0.3, 20))
  for ordinary, is_named in ((-0.5, True), (0.5, False)):
    score = float(log_odds_to_score(ordinary))
    found = class_verdict.higher_than_the_others(scored(classes), 0.5, score)
    assert (found[4] < 1e-6) == is_named


def test_too_few_classes_tell_nothing(rng):
  classes = [rng.random(9) for _ in range(4)] + [rng.random(4)] * 9
  assert class_verdict.higher_than_the_others(scored(classes), 0.5, 0.0) is None


@pytest.mark.parametrize('small', [1, 3, 5, 8])
def test_small_classes_are_not_named_for_being_small(rng, known, small):
  """The scores of few pictures lie high more often."""
  named = 0
  for _ in range(25):
    sizes = [40] * 40 + [small] * 20
    classes = [log_odds_to_score(rng.normal(0, 1, n)) for n in sizes]
    verdicts = class_verdict.judge(scored(classes), *known)
    named += int(class_verdict.named(verdicts.p_values).sum())
  assert named <= 1


@pytest.mark.parametrize('victims', [1, 2, 4])
def test_several_victims_do_not_hide_each_other(rng, known, victims):
  """Half of their pictures score higher than clean ones, none is flagged."""
  threshold, rate, _ = known
  seen = false = 0
  for _ in range(10):
    values = rng.normal(-3, 0.4, (20, 30))
    values[:victims, :15] += 3.5
    scores = log_odds_to_score(values)
    assert (scores < threshold).all()
    found = judged(values, known)
    named = class_verdict.named(found.p_values)
    seen += int(named[:victims].sum())
    false += int(named[victims:].sum())
  assert seen == 10 * victims and false == 0


@pytest.mark.parametrize('shift,spread', [(3.0, 1.0), (1.7, 0.4)])
def test_clean_classes_are_not_named_and_poisoned_ones_are(
  rng, known, shift, spread
):
  """Poison that is flagged; or that only scores higher than the pictures of the
  folder, which are more alike than all those that the PIRM knows."""
  false = seen = by_flags = 0
  threshold, rate, _ = known
  for _ in range(40):  # folders of fifty classes of 30 pictures
    scores = rng.normal(0, spread, size=(50, 30))
    scores[0, :20] += shift
    verdicts = judged(scores, known)
    found = class_verdict.named(verdicts.p_values)
    assert verdicts.rate_holds
    seen += int(found[0])
    false += int(found[1:].sum())
    flags = (log_odds_to_score(scores) > threshold).sum(axis=1)
    alone = class_verdict.p_values(flags, np.full(50, 30), rate)
    by_flags += int(class_verdict.named(alone)[0])
  assert false <= 1 and seen >= 39
  assert by_flags >= 39 if shift > 2 else by_flags <= 20


def test_other_pictures_are_compared_with_each_other(rng, known):
  """A folder whose pictures all score high, each class by an amount of its own,
  and one victim."""
  false = seen = 0
  for _ in range(40):
    scores = rng.normal(0.8, 1, (40, 30)) + rng.normal(0, 0.3, (40, 1))
    scores[0, :20] += 4
    verdicts = judged(scores, known)
    found = class_verdict.named(verdicts.p_values)
    assert not verdicts.rate_holds
    seen += int(found[0])
    false += int(found[1:].sum())
  assert seen >= 30 and false <= 2


def test_flags_everywhere_are_no_attack(rng):
  """One victim in twenty classes, or noise in all of them."""
  sizes = np.full(20, 30)
  one = class_verdict.p_values(np.array([30] + [0] * 19), sizes, 0.014)
  assert class_verdict.rate_holds(one)
  noisy = class_verdict.p_values(rng.binomial(30, 0.3, 20), sizes, 0.014)
  assert not class_verdict.rate_holds(noisy)
  assert class_verdict.rate_holds(np.zeros(3))  # too few to tell


def test_beside_the_others_is_binomial_where_they_do_not_differ(rng):
  judged = np.full(200, 30)
  above = rng.binomial(30, 0.2, 200)
  found = class_verdict.beside_the_others(above, judged, 0.01)
  expected = class_verdict.p_values(above, judged, above.sum() / 6000)
  np.testing.assert_allclose(np.log(found), np.log(expected), atol=0.7)


@pytest.mark.parametrize('classes', [1, 3, 5])
def test_a_few_classes_of_other_pictures_are_not_named(rng, known, classes):
  """All pictures score somewhat higher than those of which rates were
  measured, but are hardly flagged."""
  named = 0
  for _ in range(60):
    scores = rng.normal(0.7, 0.6, (classes, 20))
    verdicts = judged(scores, known)
    named += int(class_verdict.named(verdicts.p_values).sum())
  assert named == 0
