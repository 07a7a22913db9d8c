import dataclasses

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_examples
from hypothesis import given, settings
from hypothesis import strategies as st

from babam_jax.defenses import laplace, noise
from babam_jax.defenses.calibrated_noise import CalibratedNoise
from babam_jax.defenses.drop import Drop
from babam_jax.defenses.suspect import Verdict


def slow_sensitivities(examples, kind):
  """Algorithm 1, lines 2 to 6, as the paper writes them."""
  found = {}
  for k in range(len(examples.class_names)):
    mine = examples.labels == k
    members = examples.images[mine].astype(np.float64)
    squares = [((image - members.mean(0)) ** 2).sum() for image in members]
    distances = {
      'squared': squares,
      'euclidean': np.sqrt(squares),
      'constant': np.ones(len(squares)),
    }[kind]
    largest = max(distances, default=0)
    for name, distance in zip(examples.ids[mine], distances, strict=True):
      found[name] = distance / largest if largest else 0
  return found


def sensitivities(examples, classes, kind='squared', rows=noise.CHUNK_ROWS):
  return noise.sensitivities(
    noise.in_chunks(examples, rows), np.array(classes), kind
  )


@settings(max_examples=25, deadline=None)
@given(
  st.integers(1, 20),
  st.integers(1, 5),
  st.integers(1, 7),
  st.sampled_from(noise.DISTANCES),
  st.integers(0, 99),
)
def test_sensitivities_against_plain_loops(count, classes, rows, kind, seed):
  examples = make_examples(count, classes, size=4, seed=seed)
  found = sensitivities(examples, range(classes), kind, rows)
  slow = slow_sensitivities(examples, kind)
  # Nothing flagged passes without noise.
  expected = {name: share or 1 for name, share in slow.items()}
  assert found == pytest.approx(expected, rel=1e-5)


def test_sensitivities_of_some_classes_are_those_of_all():
  examples = make_examples(30, 5)
  whole = sensitivities(examples, range(5), rows=7)
  some = sensitivities(examples, [1, 4], rows=7)
  of_them = examples.ids[np.isin(examples.labels, [1, 4])]
  assert some == {name: whole[name] for name in of_them}


def test_classes_without_images_are_refused():
  with pytest.raises(ValueError, match='no images'):
    sensitivities(make_examples(3, 1), [4])


def test_bits_are_those_of_threefry():
  rng = np.random.default_rng(0)
  key = rng.integers(0, 2**32, 2, np.uint32)
  counters = rng.integers(0, 2**32, 1000, np.uint32)
  expected = jax.extend.random.threefry_2x32(key, counters)
  first, second = jnp.asarray(key)
  counter = jnp.asarray(counters[:500]), jnp.asarray(counters[500:])
  found = laplace.threefry((first, second), counter)
  np.testing.assert_array_equal(np.concatenate(found), expected)


def test_all_bits_together_are_a_laplace_distribution():
  values = np.sort(laplace.standard(jnp.arange(1 << 16, dtype='u4')))
  np.testing.assert_allclose(values, -values[::-1])  # symmetric
  assert np.abs(values).mean() == pytest.approx(1, rel=1e-4)
  assert (values**2).mean() == pytest.approx(2, rel=1e-3)
  assert values.max() == pytest.approx(laplace.LARGEST)
  # Kolmogorov-Smirnov: the step function is nowhere off by more than a step.
  shares = np.where(values < 0, np.exp(values) / 2, 1 - np.exp(-values) / 2)
  steps = (np.arange(1 << 16) + 0.5) / (1 << 16)
  assert np.abs(shares - steps).max() < 1 / (1 << 15)


def test_neighbors_and_pictures_are_independent():
  keys = np.random.default_rng(0).integers(0, 2**32, (4, 2), np.uint32)
  noise_of = jax.jit(
    lambda keys, images: laplace.apply(
      lambda pixels, noise: (pixels + noise).round().astype('uint8'),
      keys,
      images,
      jnp.full(4, 15.0),
    )
  )
  images = np.full((4, 63, 64, 3), 128, np.uint8)
  found = np.asarray(noise_of(keys, images), float).reshape(4, -1) - 128
  for lag in (1, 2, 3, 4, 63 * 64 * 3 // 4):
    related = np.corrcoef(found[:, :-lag].ravel(), found[:, lag:].ravel())
    assert abs(related[0, 1]) < 0.02, lag
  between = np.corrcoef(found) - np.eye(4)
  assert np.abs(between).max() < 0.04


@pytest.mark.parametrize('size', [1, 3, 6])
def test_sizes_that_four_does_not_divide(size):
  images = jnp.arange(2 * size * size * 3, dtype=jnp.uint8)
  images = images.reshape(2, size, size, 3)
  keys = jnp.zeros((2, 2), jnp.uint32)
  found = laplace.apply(lambda pixels, noise: pixels, keys, images, jnp.ones(2))
  np.testing.assert_array_equal(found, images)


def perturb(examples, epsilon=0.05, mode='laplace', seed=0, among=None):
  sensitivity = sensitivities(among or examples, range(9))
  scales = np.array([sensitivity[name] for name in examples.ids]) / epsilon
  return noise.perturb(
    examples.images, examples.ids, scales, mode=mode, seed=seed
  )


def test_noise_is_laplace_with_the_scale_of_the_paper():
  rng = np.random.default_rng(0)
  images = np.full((3, 64, 64, 3), 128, np.uint8)
  images[0] += rng.integers(0, 3, images[0].shape, np.uint8)
  images[1] += rng.integers(0, 9, images[1].shape, np.uint8)
  examples = dataclasses.replace(
    make_examples(3, 1), images=images, labels=np.zeros(3, np.int32)
  )
  epsilon = 0.1
  found = perturb(examples, epsilon)
  sensitivity = slow_sensitivities(examples, 'squared')
  for name, image, noised in zip(examples.ids, images, found, strict=True):
    difference = noised.astype(float) - image
    scale = sensitivity[name] / epsilon  # E|x| of Laplace(0, scale)
    assert np.abs(difference).mean() == pytest.approx(scale, rel=0.05, abs=0.02)
    assert difference.mean() == pytest.approx(0, abs=0.2)
    # and not normal: its kurtosis is 6, not 3
    if scale > 3:
      kurtosis = (difference**4).mean() / (difference**2).mean() ** 2
      assert 5 < kurtosis < 7


@pytest.mark.parametrize('mode', noise.MODES)
def test_a_class_of_one_or_of_identical_pictures_has_the_full_noise(mode):
  examples = make_examples(4, 2)
  images = examples.images.copy()
  images[[2, 3]] = images[0]
  labels = np.array([0, 1, 0, 0], np.int32)
  examples = dataclasses.replace(examples, images=images, labels=labels)
  assert set(sensitivities(examples, [0, 1]).values()) == {1}
  assert (perturb(examples, mode=mode) != images).any((1, 2, 3)).all()


def test_released_mode_is_the_scripts_arithmetic():
  examples = make_examples(6, 1, size=16)
  found = perturb(examples, mode='released')
  # x + x * k modulo 256 for a whole number k: zero stays zero, even stays even
  zero, even = examples.images == 0, examples.images % 2 == 0
  assert zero.any() and (found[zero] == 0).all()
  assert (found[even] % 2 == 0).all()
  assert (found != examples.images).mean() > 0.5


def test_noise_follows_the_id_not_the_row():
  examples = make_examples(9, 2)
  whole = perturb(examples)
  rows = np.array([7, 2, 5])
  np.testing.assert_array_equal(
    perturb(examples.take(rows), among=examples), whole[rows]
  )
  assert not np.array_equal(whole, perturb(examples, seed=1))


def test_lower_epsilon_is_more_noise():
  examples = make_examples(9, 2, size=16)
  changes = [
    np.abs(perturb(examples, epsilon).astype(int) - examples.images).mean()
    for epsilon in (0.5, 0.1, 0.05, 0.01)
  ]
  assert changes == sorted(changes) and changes[0] > 0


class Untold(np.ndarray):
  """A ground truth that must not be looked at; its rows may be taken."""

  def __bool__(self, *args, **kwargs):
    raise AssertionError('the defense looked at the ground truth')

  __array_ufunc__ = __array_function__ = __iter__ = __bool__


@pytest.mark.parametrize('flagged', [[], [3], list(range(12))])
def test_algorithm_2_touches_only_what_is_flagged(flagged):
  examples = dataclasses.replace(
    make_examples(12), poisoned=np.zeros(12, bool).view(Untold)
  )
  flags = np.zeros(12, bool)
  flags[flagged] = True
  verdict = Verdict(flags.astype(float), flags)
  sanitized = CalibratedNoise(0.01).treat(examples, verdict, 0)
  np.testing.assert_array_equal(sanitized.ids, examples.ids)
  np.testing.assert_array_equal(sanitized.labels, examples.labels)
  changed = (sanitized.images != examples.images).any((1, 2, 3))
  np.testing.assert_array_equal(changed, flags)
  kept = Drop().treat(examples, verdict, 0)
  np.testing.assert_array_equal(kept.ids, examples.ids[~flags])
