"""Filters on flagged pictures, and on all others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_examples

from babam_jax import errors
from babam_jax.data import examples
from babam_jax.defenses import base, filters, fresh_noise
from babam_jax.defenses.filtered import Filtered
from babam_jax.defenses.filtered_inputs import FilteredInputs
from babam_jax.defenses.filters import Filters
from babam_jax.defenses.plain import Plain
from babam_jax.defenses.suspect import Verdict
from babam_jax.training.recognition import Recognition, RecognitionSettings

STEPS = (
  {'smaller': 2.0},
  {'jpeg': 30.0},
  {'median': 2.0},
  {'non_local_means': 15.0},
)
FLAGS = np.array([True, False, False, True])


def smooth(rng, count=4, side=40):
  """Pictures without fine texture."""
  x, y = np.meshgrid(*2 * [np.linspace(0, 1, side)])
  slopes = rng.uniform(-80, 80, (count, 1, 1, 3, 2))
  plane = slopes[..., 0] * x[..., None] + slopes[..., 1] * y[..., None]
  return np.clip(128 + plane, 0, 255).astype(np.uint8)


def grainy(images, rng, size=12):
  change = rng.integers(-size, size + 1, images.shape)
  return np.clip(images + change, 0, 255).astype(np.uint8)


def untrusted(rng):
  return examples.examples(grainy(smooth(rng), rng), np.array([0, 0, 1, 1]))


def changed(before, after):
  return (before.images != after.images).any((1, 2, 3)).tolist()


def test_all_steps_are_tried_here():
  assert [name for step in STEPS for name in step] == list(filters.FILTERS)


def test_all_pictures_are_filtered_as_soon_as_one_is_flagged(rng):
  before = untrusted(rng)
  verdict = Verdict(FLAGS * 1.0, FLAGS)
  after = Filtered().treat(before, verdict, seed=0)
  assert changed(before, after) == [True] * 4
  assert after.ids.tolist() == before.ids.tolist()
  assert after.labels.tolist() == before.labels.tolist()
  alone = Filtered(everywhere=False).treat(before, verdict, seed=0)
  assert changed(before, alone) == FLAGS.tolist()
  np.testing.assert_array_equal(alone.images[FLAGS], after.images[FLAGS])
  nobody = Verdict(np.zeros(4), np.zeros(4, bool))
  assert Filtered().treat(before, nobody, seed=0) is before


@pytest.mark.parametrize('step', STEPS, ids=str)
@pytest.mark.parametrize('side', [40, 41])
def test_grain_goes_and_the_picture_stays(rng, step, side):
  before = smooth(rng, side=side)
  poisoned = grainy(before, rng)
  after = Filters((step,)).change(poisoned, np.arange(4).astype(str), 0)
  assert after.shape == before.shape and after.dtype == np.uint8
  was, left = (np.abs(x.astype(int) - before).mean() for x in (poisoned, after))
  assert left < 0.75 * was


@pytest.mark.parametrize(
  ('name', 'weak', 'strong'),
  [
    ('smaller', 1.2, 4),
    ('jpeg', 95, 10),
    ('median', 1, 4),
    ('non_local_means', 3, 30),
    ('noise', 2, 20),
  ],
)
def test_what_the_number_of_a_step_means(rng, name, weak, strong):
  pictures = grainy(smooth(rng), rng)
  changes = [
    Filters(({name: amount},))
    .change(pictures, np.arange(4).astype(str), 0)
    .astype(int)
    - pictures
    for amount in (weak, strong)
  ]
  assert np.abs(changes[0]).mean() < np.abs(changes[1]).mean()


def test_steps_follow_each_other(rng):
  pictures, ids = grainy(smooth(rng), rng), np.arange(4).astype(str)
  both = Filters(({'smaller': 2.0}, {'jpeg': 30.0}))
  first, second = (Filters((step,)) for step in both.steps)
  expected = second.change(first.change(pictures, ids, 0), ids, 0)
  np.testing.assert_array_equal(both.change(pictures, ids, 0), expected)


def test_noise_has_its_scale_and_hangs_on_the_id(rng):
  pictures = np.full((2, 64, 64, 3), 128, np.uint8)
  treatment, names = Filters(({'noise': 9.0},)), np.array(['a', 'b'])
  found = treatment.change(pictures, names, 1)
  assert np.abs(found.astype(int) - 128).mean() == pytest.approx(9, rel=0.1)
  again = treatment.change(pictures, names[::-1], 1)
  np.testing.assert_array_equal(found, again[::-1])


@pytest.mark.parametrize(
  'step',
  [
    {'blur': 2.0},
    {'jpeg': 0.0},
    {'jpeg': 101},
    {'jpeg': 'good'},
    {'noise': -1},
    {'median': True},
  ],
)
def test_steps_that_do_not_exist_are_told(step):
  treatment = dataclasses.replace(Filters(), steps=({'jpeg': 30.0}, step))
  with pytest.raises(errors.UserError, match=r'config.path.steps: found {'):
    treatment.check('path', RecognitionSettings())


@pytest.mark.parametrize('step', [{}, {'jpeg': 30.0, 'median': 1.0}])
def test_a_step_is_one_filter(step):
  treatment = Filters(steps=(step,))
  with pytest.raises(
    errors.UserError, match='expected a list of single filters'
  ):
    treatment.check('path', RecognitionSettings())


def means_of_faces(stored=lambda pictures: None):
  """A network of which nothing trains."""
  chosen = RecognitionSettings(
    model='mobile_face_net', pretrained='none', head='nearest_mean'
  )
  return Recognition(chosen, 0, 4, stored)


def context(recognition, folder):
  trusted = make_examples(1, size=64)
  return base.Context(0, recognition, folder, 0, base.Meter(), trusted)


def test_a_network_behind_filters_sees_no_picture_as_it_is(tmp_path):
  """Neither in training nor at test time, nor what was stored of it."""
  with_stored = means_of_faces(lambda pictures: np.zeros((len(pictures), 128)))
  known, asked = (make_examples(4, 2, 64, seed) for seed in (1, 2))
  behind = FilteredInputs(({'smaller': 4.0}, {'noise': 3.0}))
  found = behind.fit(context(with_stored, tmp_path), known).predict(asked)
  plain = Plain().fit(
    context(means_of_faces(), tmp_path), behind.applied(known, 0)
  )
  np.testing.assert_array_equal(found, plain.predict(behind.applied(asked, 0)))
  assert not np.allclose(found, plain.predict(asked))


def test_a_network_behind_filters_keeps_them_on_disk(tmp_path):
  recognition = means_of_faces()
  known, asked = (make_examples(4, 2, 64, seed) for seed in (1, 2))
  behind = FilteredInputs(({'jpeg': 20.0},))
  made = behind.fit(context(recognition, tmp_path), known)
  made.save(tmp_path)
  again = behind.load(recognition, tmp_path, 2)
  np.testing.assert_array_equal(again.predict(asked), made.predict(asked))


def test_fresh_noise_is_on_flagged_pictures_alone_and_new_in_each_step():
  images = np.full((4, 32, 32, 3), 128, np.uint8)
  inputs = jnp.asarray(fresh_noise.marked(images, FLAGS) / np.float32(255))
  keys = [jax.random.split(jax.random.key(step), 4) for step in range(2)]
  seen = [255 * np.asarray(fresh_noise.noised(inputs, k, 9.0)) for k in keys]
  assert seen[0].shape == images.shape
  for step in seen:
    np.testing.assert_allclose(step[~FLAGS], 128, atol=1e-3)
    assert np.abs(step[FLAGS] - 128).mean() == pytest.approx(9, rel=0.1)
  assert np.abs(seen[0] - seen[1])[FLAGS].mean() > 9
