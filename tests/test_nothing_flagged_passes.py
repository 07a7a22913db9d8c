"""Algorithm 1 with its rule: what is flagged is never passed unchanged."""

import dataclasses

import numpy as np
import pytest
from conftest import make_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_noise import slow_sensitivities

from babam_jax import errors
from babam_jax.defenses import any_size, babam, noise, pirm
from babam_jax.sanitizer import folder, one_class, output, picture, sanitize

OPTIONS = {'distance': 'squared', 'mode': 'laplace', 'seed': 0}
SIZE = 16


def near_and_far():
  """Forty pictures that lie close together, and one far away."""
  images = np.full((41, SIZE, SIZE, 3), 128, np.uint8)
  for row in range(40):
    images[row, row % SIZE, row // SIZE] += 1
  images[40] = 0
  return images


def with_images(images, labels=None):
  labels = np.zeros(len(images)) if labels is None else labels
  return dataclasses.replace(
    make_examples(len(images)),
    images=images,
    labels=np.array(labels, np.int32),
  )


@st.composite
def mixed_classes(draw):
  """Random pictures, some twice, some the mean of their class; with labels and
  flags."""
  count = draw(st.integers(1, 16))
  chosen = draw(st.lists(st.integers(0, count), min_size=count, max_size=count))
  rng = np.random.default_rng(draw(st.integers(0, 99)))
  images = rng.integers(0, 256, (count + 1, SIZE, SIZE, 3), np.uint8)
  if draw(st.booleans()):
    # Beside a picture and its negative, gray is the mean of its class.
    even = images[0] // 2 * 2
    images = np.stack([even, 254 - even, np.full_like(even, 127)])
    chosen = [row % 3 for row in range(count)]
  labels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
  flags = draw(st.lists(st.booleans(), min_size=count, max_size=count))
  return images[chosen], labels, np.array(flags)


@settings(max_examples=60, deadline=None)
@given(
  mixed_classes(),
  st.sampled_from([0.005, 0.05, 0.5]),
  st.sampled_from(noise.DISTANCES),
  st.sampled_from(noise.MODES),
)
def test_what_is_flagged_changes_and_the_rest_stays(
  mixed, epsilon, distance, mode
):
  images, labels, flags = mixed
  examples = with_images(images, labels)
  before = examples.images.copy()
  treated = babam.treat(
    examples, flags, epsilon=epsilon, distance=distance, mode=mode, seed=0
  )
  np.testing.assert_array_equal(examples.images, before)
  np.testing.assert_array_equal(treated.ids, examples.ids)
  np.testing.assert_array_equal(treated.labels, examples.labels)
  changed = (treated.images != before).any((1, 2, 3))
  np.testing.assert_array_equal(changed, flags)


@settings(max_examples=40, deadline=None)
@given(mixed_classes(), st.sampled_from(noise.DISTANCES))
def test_the_noise_is_that_of_the_plain_algorithm(mixed, distance):
  """Full where a distance is 0; the rest as the paper has it."""
  examples = with_images(*mixed[:2])
  everything = np.ones(len(examples), bool)
  options = OPTIONS | {'distance': distance}
  treated = babam.treat(examples, everything, epsilon=0.01, **options)
  slow = slow_sensitivities(examples, distance)
  full = np.array([not slow[name] for name in examples.ids])
  scales = np.where(full, 1, [slow[name] for name in examples.ids]) / 0.01
  expected = noise.perturb(
    examples.images, examples.ids, scales, mode='laplace', seed=0
  )
  np.testing.assert_array_equal(treated.images[full], expected[full])
  # The slow sensitivities differ in their last digits.
  off = np.abs(treated.images.astype(int) - expected)
  assert off.max() <= 1 and (off > 0).mean() < 1e-3


@settings(max_examples=40, deadline=None)
@given(mixed_classes(), st.sampled_from(noise.DISTANCES))
def test_pictures_one_at_a_time_have_the_same_sensitivities(mixed, distance):
  """As the sanitizer takes them: it never has a class in memory."""
  examples = with_images(*mixed[:2])
  labels = examples.labels
  means = noise.ClassMeans(3)
  for row in range(len(examples)):
    means.add(examples.images[row : row + 1], labels[row : row + 1])
  distances = [
    noise.distances(image[None], label[None], means.means(), distance)[0]
    for image, label in zip(examples.images, labels, strict=True)
  ]
  shares = noise.shares(np.array(distances), labels)
  of_all = noise.sensitivities(
    noise.in_chunks(examples, 5), np.arange(3), distance
  )
  found = dict(zip(examples.ids.tolist(), shares.tolist(), strict=True))
  assert found == pytest.approx(of_all, rel=1e-5)
  slow = slow_sensitivities(examples, distance)
  assert found == pytest.approx({n: s or 1 for n, s in slow.items()})


@pytest.mark.parametrize('add', [noise.perturb, any_size.perturb])
def test_noise_that_changes_nothing_gives_way_to_the_full(add):
  examples = with_images(near_and_far())
  found = noise.sensitivities(
    noise.in_chunks(examples), np.zeros(1, int), 'squared'
  )
  shares = np.array([found[name] for name in examples.ids])
  assert shares[:40].max() < 1e-3
  treated = noise.treat(
    examples.images,
    examples.ids,
    shares,
    epsilon=0.5,
    mode='laplace',
    seed=0,
    add=add,
  )
  np.testing.assert_array_equal(treated.sensitivities, 1)
  expected = add(
    examples.images, examples.ids, np.full(41, 2.0), mode='laplace', seed=0
  )
  np.testing.assert_array_equal(treated.images, expected)


@pytest.mark.parametrize('mode', noise.MODES)
def test_a_budget_that_allows_no_noise_is_a_mistake(mode):
  examples = make_examples(4, 1)
  with pytest.raises(errors.UserError, match='epsilon: found 1e[+]06.*id0'):
    babam.treat(
      examples, np.ones(4, bool), epsilon=1e6, **OPTIONS | {'mode': mode}
    )


def test_the_sanitizer_has_the_same_rule(tmp_path):
  """A picture that is the mean of its class, and one that hardly differs."""
  rng = np.random.default_rng(0)
  middle = rng.integers(20, 200, (224, 224, 3), np.uint8)
  classes = {
    'mean': [middle - 9, middle, middle + 9],
    'near': [middle] * 20 + [255 - middle],
    'one': [middle],
  }
  for name, images in classes.items():
    (tmp_path / 'in' / name).mkdir(parents=True)
    for number, image in enumerate(images):
      path = tmp_path / 'in' / name / f'{number:02d}.png'
      Image.fromarray(image).save(path)
  model = pirm.load(pirm.SHIPPED['shipped'])
  source = tmp_path / 'in'
  out = output.Output(source, tmp_path / 'out', {})
  inventory = folder.inventory(source)
  out.begin(inventory)
  chosen = one_class.Settings('perturb', 'drop', -1.0, 0.5, False, 0)
  found = {
    record.path: record
    for records in sanitize.run(source, inventory, out, model, chosen)
    for record in records
  }
  assert len(found) == 25
  for record in found.values():
    assert (record.sensitivity, record.scale) == (1, 2)
    after = picture.read(tmp_path / 'out' / record.output).pixels
    before = picture.read(tmp_path / 'in' / record.path).pixels
    assert (after != before).mean() > 0.3
