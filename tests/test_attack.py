import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from babam_jax import errors
from babam_jax.attacks import (
  collision,
  optimizers,
  pace,
  pairing,
  poison_set,
  trigger,
)
from babam_jax.attacks.hidden_trigger import HiddenTrigger
from babam_jax.attacks.label_consistent import LabelConsistent
from babam_jax.models import initial
from babam_jax.training import parallel

ORIGIN = initial.Origin('linear', '', '', [], ['kernel'])

MATRICES = st.integers(1, 5).flatmap(
  lambda n: hnp.arrays(np.float64, (n, n), elements=st.floats(0, 100))
)


@given(MATRICES)
def test_hungarian_has_the_least_total(distances):
  count = len(distances)
  pairs = pairing.hungarian(distances)
  best = min(
    distances[np.arange(count), list(order)].sum()
    for order in itertools.permutations(range(count))
  )
  assert sorted(pairs) == list(range(count))
  assert distances[np.arange(count), pairs].sum() == pytest.approx(best)


@given(MATRICES)
def test_greedy_takes_the_closest_free_pair(distances):
  count = len(distances)
  free = {(i, j) for i in range(count) for j in range(count)}
  expected = {}
  while free:
    i, j = min(free, key=lambda pair: (distances[pair], pair))
    expected[i] = j
    free = {(a, b) for a, b in free if a != i and b != j}
  assert dict(enumerate(pairing.greedy(distances))) == expected


def test_reference_pairing_is_not_one_to_one():
  distances = np.array([[1.0, 9, 9], [2, 9, 9], [3, 9, 9]])
  np.testing.assert_array_equal(pairing.reference(distances), [0, 0, 0])
  # The last of a target's entries wins; target 1 has none and keeps its own.
  distances = np.array([[1.0, 2, 9], [9, 9, 9], [9, 9, 3]])
  np.testing.assert_array_equal(pairing.reference(distances), [1, 1, 2])


def test_squared_distances(rng):
  a, b = rng.normal(size=(4, 7)), rng.normal(size=(5, 7))
  expected = [[((x - y) ** 2).sum() for y in b] for x in a]
  np.testing.assert_allclose(pairing.squared_distances(a, b), expected)


@given(st.integers(5, 40), st.integers(0, 100))
def test_trigger_is_stamped_where_it_should(size, seed):
  patch = trigger.make_trigger(seed, size)
  assert patch.shape == (size, size, 3)
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (3, 50, 50, 3), np.uint8)
  before = images.copy()
  corners = trigger.random_corners(rng, 3, 50, size)
  patched = trigger.stamp(images, patch, corners)
  np.testing.assert_array_equal(images, before)
  for old, new, (row, column) in zip(images, patched, corners, strict=True):
    inside = np.zeros((50, 50), bool)
    inside[row : row + size, column : column + size] = True
    np.testing.assert_array_equal(new[inside], patch.reshape(-1, 3))
    np.testing.assert_array_equal(new[~inside], old[~inside])


@given(
  hnp.arrays(np.uint8, (2, 3, 3, 3)),
  hnp.arrays(np.float32, (2, 3, 3, 3), elements=st.floats(-1, 1, width=32)),
  st.floats(0.5, 40),
)
def test_rounding_stays_within_eps(images, delta, eps):
  delta = np.clip(delta, -eps / 255, eps / 255)
  poison = collision.to_uint8_within(images, delta, eps)
  change = np.abs(poison.astype(int) - images)
  assert change.max() <= eps
  # and it rounds, not truncates
  inside = (images + delta * 255).clip(0, 255)
  limit = np.maximum(0.5, np.abs(delta * 255) - np.floor(eps)) + 1e-3
  assert (np.abs(poison - inside) <= limit).all()


def linear_features(params, images):
  return images.reshape(len(images), -1) @ params


def make_spec(**changes):
  fields = dict(
    eps=16.0,
    optimizer='sign_momentum',
    iterations=40,
    stop_distance=0.0,
    pairing='hungarian',
    pair_every=10,
    batch_size=8,
  )
  return collision.CollisionSpec(**fields | changes)


@pytest.mark.parametrize('optimizer', list(optimizers.OPTIMIZERS))
def test_crafting_brings_features_together(rng, optimizer):
  # Scaled so that the reference's plain descent at 0.01 converges.
  params = (rng.normal(size=(6 * 6 * 3, 10)) / 2).astype(np.float32)
  targets = rng.integers(100, 150, (5, 6, 6, 3), np.uint8)
  sources = rng.integers(100, 150, (5, 6, 6, 3), np.uint8)
  crafter = collision.Crafter(
    linear_features, params, make_spec(optimizer=optimizer)
  )
  poison = crafter.craft(targets, sources)
  assert (poison.distance_end < 0.5 * poison.distance_start).all()
  assert np.abs(poison.images.astype(int) - targets).max() <= 16
  goals = linear_features(params, sources[poison.pairs] / np.float32(255))
  found = linear_features(params, poison.images / np.float32(255))
  expected = ((found - goals) ** 2).sum(1)
  np.testing.assert_allclose(poison.distance_end, expected, rtol=1e-3)


def test_finished_pictures_stay_as_they_are(rng):
  params = rng.normal(size=(6 * 6 * 3, 4)).astype(np.float32)
  targets = rng.integers(100, 150, (3, 6, 6, 3), np.uint8)
  sources = targets.copy()
  sources[2] += 10  # the others are where they should be already
  crafter = collision.Crafter(
    linear_features, params, make_spec(stop_distance=0.01, pairing='fixed')
  )
  poison = crafter.craft(targets, sources)
  np.testing.assert_array_equal(poison.images[:2], targets[:2])
  assert (poison.images[2] != targets[2]).any()


def test_weights_that_are_not_numbers_are_told(rng):
  params = np.full((6 * 6 * 3, 4), np.nan, np.float32)
  pictures = rng.integers(0, 256, (2, 6, 6, 3), np.uint8)
  crafter = collision.Crafter(
    linear_features, params, make_spec(pairing='fixed')
  )
  with pytest.raises(errors.UserError, match='weights of the surrogate'):
    crafter.craft(pictures, pictures)


def test_padding_rows_change_nothing(rng):
  params = rng.normal(size=(6 * 6 * 3, 4)).astype(np.float32)
  targets = rng.integers(0, 256, (3, 6, 6, 3), np.uint8)
  sources = rng.integers(0, 256, (3, 6, 6, 3), np.uint8)
  crafter = collision.Crafter(linear_features, params, make_spec())
  bare = crafter.craft(targets, sources)
  padded = crafter.craft(targets, sources, rows=7)
  np.testing.assert_array_equal(bare.images, padded.images)
  np.testing.assert_array_equal(bare.pairs, padded.pairs)


# Not by sign: a rounding error may turn a step around.
@pytest.mark.parametrize('optimizer', ['l2', 'adam'])
@pytest.mark.parametrize('steps', [3, 10, 64])
@pytest.mark.parametrize('stop_distance', [0.0, 3.0])
def test_batches_and_steps_at_once_change_nothing(
  rng, steps, stop_distance, optimizer
):
  """As a GPU takes them: up to rounding, what a CPU makes one by one."""
  params = rng.normal(size=(6 * 6 * 3, 4)).astype(np.float32) / 4
  pictures = rng.integers(100, 150, (2, 8, 6, 6, 3), np.uint8)
  spec = make_spec(
    optimizer=optimizer,
    iterations=25,
    pair_every=10,
    stop_distance=stop_distance,
  )
  batches = [tuple(pictures[:, :3]), tuple(pictures[:, 3:])]
  one_by_one = collision.Crafter(linear_features, params, spec, steps=1)
  apart = [one_by_one.craft(*batch, rows=5) for batch in batches]
  taken = []
  together = collision.Crafter(linear_features, params, spec, steps=steps)
  found = list(
    together.craft_batches(
      batches, rows=5, places=3, on_steps=lambda n, distance: taken.append(n)
    )
  )
  assert len(found) == 2 and sum(taken) <= 25
  assert set(taken) <= {min(steps, 10), 10 % steps, 5 % steps, 5}
  for a, b in zip(apart, found, strict=True):
    np.testing.assert_array_equal(a.pairs, b.pairs)
    differing = np.abs(a.images.astype(int) - b.images)
    assert differing.max() <= 1 and (differing > 0).mean() < 0.02


def test_what_a_gpu_takes_at_once_follows_from_its_memory(monkeypatch):
  def squares(params, images):
    doubled = 2 * images.reshape(len(images), -1)  # freed before the square
    return (doubled @ params) ** 2

  params = np.zeros((108, 10), np.float32)
  picture = jax.ShapeDtypeStruct((6, 6, 3), np.float32)

  def at_once():
    return pace.pictures_at_once(squares, params, picture)

  assert at_once() == 0  # a CPU
  each, shared = 4 * 3 * 108, 4 * 1080
  for memory, expected in ((40 * each, 20), (1, 1), (1 << 40, 1024)):
    monkeypatch.setattr(
      parallel, 'device_memory', lambda n=memory: 2 * shared + n
    )
    assert at_once() == expected * parallel.num_devices()


@pytest.mark.parametrize('side_by_side', [1, 2])
@pytest.mark.parametrize('fail_at', [0, 1, 2])
def test_a_killed_set_continues_with_the_same_bytes(
  rng, tmp_path, monkeypatch, fail_at, side_by_side
):
  monkeypatch.setattr(
    collision.Crafter, 'batches_at_once', lambda self, picture: side_by_side
  )
  params = jnp.asarray(rng.normal(size=(36 * 36 * 3, 4)), jnp.float32)
  targets = rng.integers(0, 256, (5, 36, 36, 3), np.uint8)
  sources = rng.integers(0, 256, (5, 36, 36, 3), np.uint8)

  def make(scratch):
    scratch.mkdir(exist_ok=True)
    return poison_set.craft_set(
      poison_set.Surrogate(linear_features, params, ORIGIN),
      make_spec(batch_size=2, iterations=5),
      targets,
      sources,
      patch=trigger.make_trigger(0, 10),
      seed=0,
      scratch=scratch,
    )

  whole, patched = make(tmp_path / 'undisturbed')
  craft, calls = collision.Crafter.craft_batches, []

  def dying(*args, **kwargs):
    if len(calls) == fail_at:
      raise KeyboardInterrupt
    calls.append(1)
    return craft(*args, **kwargs)

  with monkeypatch.context() as context:
    context.setattr(collision.Crafter, 'craft_batches', dying)
    if fail_at < (3 if side_by_side == 1 else 2):
      with pytest.raises(KeyboardInterrupt):
        make(tmp_path / 'killed')
  if side_by_side == 2:  # one batch of a wave was lost
    (tmp_path / 'killed' / 'batch00001.npz').unlink(missing_ok=True)
  resumed, _ = make(tmp_path / 'killed')
  for a, b in zip(whole, resumed, strict=True):
    np.testing.assert_array_equal(a, b)
  # pairs count over the whole set
  goals = linear_features(params, patched[whole.pairs] / np.float32(255))
  found = linear_features(params, whole.images / np.float32(255))
  distances = ((found - goals) ** 2).sum(1)
  np.testing.assert_allclose(whole.distance_end, distances, rtol=1e-3)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 3))
def test_every_pass_uses_each_target_once(targets, sources, passes):
  rows, source_rows = poison_set.pair_up(
    np.random.default_rng(0), targets, sources, passes
  )
  assert len(rows) == len(source_rows) == targets * passes
  np.testing.assert_array_equal(np.bincount(rows), [passes] * targets)
  assert source_rows.max() < sources


@pytest.mark.parametrize('kind', [HiddenTrigger, LabelConsistent])
def test_gray_pictures_stay_gray(rng, kind):
  """What the attacker shows, too: a camera without colors takes it."""
  pictures = np.repeat(rng.integers(0, 256, (4, 64, 64, 1), np.uint8), 3, 3)
  attack = kind(trigger_size=16, iterations=2, gray=True)
  crafted = attack.craft(pictures[:2], pictures[2:], seed=3)
  shown = attack.show(pictures[2:], seed=3)
  for found in (crafted.images, crafted.shown, shown):
    assert np.ptp(found, axis=3).max() == 0
  assert (shown != pictures[2:]).any((1, 2, 3)).all()
  colored = dataclasses.replace(attack, gray=False)
  assert np.ptp(colored.show(pictures[2:], seed=3), axis=3).max() > 0
  assert attack.facts('config.attack') != colored.facts('config.attack')
