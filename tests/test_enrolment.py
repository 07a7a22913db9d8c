"""Enrolment on an embedding, verification, boxes, and attackers who are not
enrolled."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL_RUN
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from babam_jax import errors
from babam_jax.config import overrides, rules
from babam_jax.data import image_folder, scenario
from babam_jax.defenses import calibration, pirm
from babam_jax.evaluation import metrics, verification
from babam_jax.experiment import judging, pipeline
from babam_jax.models import heads, initial, networks
from babam_jax.training import recognizer, train
from configs import bench_faces, common, lfw_faces

# Heads.


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_a_cosine_head_tells_cosines(rng):
  head = heads.CosineHead(4)
  embeddings = jnp.asarray(rng.normal(size=(5, 8)), jnp.float32)
  variables = head.init(jax.random.key(0), embeddings)
  templates = np.asarray(variables['params'][heads.TEMPLATES]['kernel'])
  expected = unit(embeddings) @ unit(templates.T).T
  found = head.apply(variables, embeddings)['logits'] / heads.SCALE
  np.testing.assert_allclose(found, expected, atol=1e-5)
  # The length of an embedding does not count.
  longer = head.apply(variables, 3 * embeddings)['logits'] / heads.SCALE
  np.testing.assert_allclose(longer, expected, atol=1e-5)
  assert np.isfinite(head.apply(variables, 0 * embeddings)['logits']).all()


def enrolled(head):
  return recognizer.Recognizer('resnet18', 3, 1, 'none', 'trunk', 0.0, head)


def test_templates_are_the_means_of_unit_embeddings(rng):
  model = enrolled(heads.NEAREST_MEAN)
  labels = np.array([0, 0, 2, 2, 2], np.int32)  # nobody is 1
  embeddings = rng.normal(size=(5, 512)).astype(np.float32)
  network = model.network(0, labels)
  variables = recognizer.class_means(network, embeddings, labels)
  found = train.predict(model.logits, variables, embeddings, 8) / heads.SCALE
  for person in (0, 2):
    template = unit(embeddings)[labels == person].mean(0)
    expected = unit(embeddings) @ unit(template)
    np.testing.assert_allclose(found[:, person], expected, atol=1e-5)
  assert (found[:, 1] == 0).all()
  assert 'head/templates' not in model.origin.random
  assert 'head/templates' in enrolled(heads.COSINE).origin.random


@pytest.mark.parametrize('model', networks.ARCHITECTURES)
@pytest.mark.parametrize('head', heads.HEADS)
def test_every_network_takes_every_head(model, head):
  shapes = jax.eval_shape(
    lambda: networks.random_variables(model, 3, 8, jax.random.key(0), head)
  )
  last = networks.last_layers(model, head)
  assert set(last) <= set(shapes['params']['head'])
  origin = initial.origin(model, 3, 8, 'none', head)
  assert {f'head/{name}' for name in last} <= set(origin.random)
  assert networks.last_tap(model, head) in networks.ARCHITECTURES[model].taps


def test_layers_come_from_front_to_back():
  model = recognizer.Recognizer('alexnet', 3, 8, 'none', 'none', 0.0)
  whole, _ = initial.variables('alexnet', 3, 8, 'none', 0)
  images = np.zeros((2, 64, 64, 3), np.float32)
  found = jax.eval_shape(model.layers_of_pictures, whole, images)
  widths = [layer.shape[-1] for layer in found]
  assert widths == [64, 192, 384, 256, 256, 8, 8]  # without the logits


def test_logits_of_no_kind_are_hidden_layers():
  model = recognizer.Recognizer('inception_v3', 3, 1, 'none', 'none', 0.0)
  shapes = jax.eval_shape(
    lambda: networks.random_variables('inception_v3', 3, 1, jax.random.key(0))
  )
  images = jax.ShapeDtypeStruct((2, 299, 299, 3), np.float32)
  found = jax.eval_shape(model.layers_of_pictures, shapes, images)
  assert len(found) > 90 and all(layer.shape[-1] != 3 for layer in found)


# Verification.


def slow_equal_error_rate(true, false):
  """The crossing of two lines through all thresholds, by a fine search."""
  points = [(0.0, 1.0)]
  for t in sorted({*true, *false}):
    points.append((np.mean(true <= t), np.mean(false > t)))
  best = None
  for (r0, a0), (r1, a1) in zip(points, points[1:], strict=False):
    for share in np.linspace(0, 1, 101):
      refused, accepted = r0 + share * (r1 - r0), a0 + share * (a1 - a0)
      if best is None or abs(refused - accepted) < best[0]:
        best = abs(refused - accepted), (refused + accepted) / 2
  return best[1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_equal_error_rate(seed, trues, falses):
  rng = np.random.default_rng(seed)
  true, false = rng.normal(1, 1, trues).round(1), rng.normal(0, 1, falses)
  found = verification.equal_error_rate(true, false.round(1))
  expected = slow_equal_error_rate(true, false.round(1))
  assert found == pytest.approx(expected, abs=0.02)


def test_verification_counts_pairs(rng):
  labels = np.repeat(np.arange(5), 40)
  likeness = rng.uniform(0, 0.5, (200, 5))
  likeness[np.arange(200), labels] += 0.4
  patched, unpatched = np.array([0.9, 0.8, 0.1]), np.array([0.1, 0.2])
  nobody = np.zeros(200, bool)
  found = verification.judge(likeness, labels, nobody, 1, patched, unpatched)
  assert found['pairs'] == {'true': 200, 'false': 800}
  false = likeness[np.arange(5) != labels[:, None]]
  true = likeness[np.arange(200), labels]
  for name, rate in verification.FALSE_ACCEPTS.items():
    at = found[name]
    if rate * 800 < 1:
      assert at == dict.fromkeys(at)
      continue
    assert (false > at['threshold']).sum() == int(rate * 800)
    assert at['far'] == int(rate * 800) / 800
    assert at['tar'] == (true > at['threshold']).mean()
    assert (
      at['accepted'] == pytest.approx(2 / 3) and at['accepted_unpatched'] == 0
    )
  assert verification.equal_error_rate(true, np.zeros(0)) is None
  alone = verification.judge(
    likeness[:, :1], labels * 0, nobody, 0, patched, unpatched
  )
  assert alone['at_far_1e-2']['tar'] is alone['at_far_1e-2']['accepted'] is None


def test_the_attacker_does_not_raise_the_threshold(rng):
  """His pictures with the victim's template are no claims that choose it."""
  labels = np.repeat(np.arange(12), 35)
  likeness = rng.uniform(0, 0.5, (420, 12))
  likeness[np.arange(420), labels] += 0.3
  attacker = labels == 3
  before = verification.judge(
    likeness, labels, attacker, 5, likeness[attacker, 5], likeness[attacker, 5]
  )
  likeness[attacker, 5] = 0.9  # the attack works without the trigger, too
  found = verification.judge(
    likeness, labels, attacker, 5, likeness[attacker, 5], likeness[attacker, 5]
  )
  assert found['pairs']['false'] == 420 * 11 - 35
  for name in verification.FALSE_ACCEPTS:
    assert found[name]['threshold'] == before[name]['threshold']
    assert found[name]['accepted'] == found[name]['accepted_unpatched'] == 1
    assert before[name]['accepted'] < 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2500), st.sampled_from([1, 3]))
def test_no_threshold_lets_more_pass_than_stated(seed, falses, digits):
  rng = np.random.default_rng(seed)
  likeness = np.stack([rng.random(falses).round(digits), np.ones(falses)], 1)
  labels, one = np.ones(falses, int), np.ones(1)
  nobody = np.zeros(falses, bool)
  found = verification.judge(likeness, labels, nobody, 0, one, one)
  for name, rate in verification.FALSE_ACCEPTS.items():
    far = found[name]['far']
    assert (far is None) == (falses * rate < 1 - 1e-9)
    assert far is None or far <= rate


def test_nobody_is_taken_for_one_without_training_pictures(rng):
  logits = rng.normal(size=(50, 4))
  logits[:, 2] += 100
  said = metrics.answers_of(logits, np.array([0, 1, 3]))
  assert set(said) == {0, 1, 3}
  others = logits.copy()
  others[:, 2] = -np.inf
  np.testing.assert_array_equal(said, others.argmax(1))


# Boxes.


def test_a_box_is_cut_out_and_black_outside(tmp_path, rng):
  pixels = rng.integers(1, 256, (40, 40, 3), np.uint8)
  path = tmp_path / 'somebody' / 'a.png'
  path.parent.mkdir()
  Image.fromarray(pixels).save(path)
  pictures = image_folder.class_folders(tmp_path, 'here')

  def read(size, box=()):
    found = image_folder.load(pictures, ('somebody',), size, None, box=box)
    return found.images[0]

  np.testing.assert_array_equal(
    read(20, (0.25, 0.5, 0.5, 0.5)), pixels[20:, 10:30]
  )
  beyond = read(40, (0.5, 0.5, 1.0, 1.0))
  np.testing.assert_array_equal(beyond[:20, :20], pixels[20:, 20:])
  assert not beyond[20:].any() and not beyond[:, 20:].any()
  np.testing.assert_array_equal(read(40), pixels)


@pytest.mark.parametrize(
  'box',
  [
    (0, 0, 1),
    (0, 0, 0, 1),
    (0, 0, 1, 9),
    (-2, 0, 1, 1),
    (2, 2, 0.5, 0.5),
    (0, -0.5, 1, 0.5),
    (0, 0, 1e-4, 1e-4),
  ],
)
def test_boxes_that_are_none(box):
  config = lfw_faces.get_config()
  config.data.box = tuple(map(float, box))
  with pytest.raises(errors.UserError, match=r'config\.data\.box: found'):
    rules.check(config)


def test_the_eyes_fall_where_the_networks_expect_them():
  eyes = np.array([0.419, 0.454]), np.array([0.579, 0.454])  # deep-funneled LFW
  expected = {
    'dlib_resnet': ((47.7, 47.1), (100.3, 47.1)),
    'mobile_face_net': ((38.29, 51.70), (73.53, 51.50)),
  }
  for model, places in expected.items():
    left, top, width, height = lfw_faces.box(model)
    for eye, place in zip(eyes, places, strict=True):
      found = (eye - (left, top)) / (width, height) * lfw_faces.SIZES[model]
      np.testing.assert_allclose(found, place, atol=1.5)


# Attackers who are not enrolled.


def pictures(count=12, people=3):
  return [
    image_folder.in_file(pathlib.Path(f'{p}/{n}'), f'{p}/{n}', f'person{p}')
    for p in range(people)
    for n in range(count)
  ]


@pytest.mark.parametrize('task', scenario.TASKS)
def test_a_stranger_is_in_no_training_set(task):
  chosen = scenario.ScenarioSettings(
    task=task,
    source='person1',
    target='person0',
    poison_images=3,
    test_images=3,
    negatives=8,
    trusted_fraction=0.2,
  )
  found = {
    enrolled: scenario.split(
      pictures(),
      dataclasses.replace(chosen, enrolled=enrolled),
      min_images=1,
      seed=0,
    )
    for enrolled in (True, False)
  }

  def of_source(split, part):
    return [p.id for p in split.parts[part] if p.id.startswith('1/')]

  for part in ('train', 'trusted'):
    assert of_source(found[True], part) and not of_source(found[False], part)
  for part in ('test', 'poison_sources'):
    assert of_source(found[True], part) == of_source(found[False], part)
  assert found[True].class_names == found[False].class_names


def test_few_clean_pictures_of_the_target_are_left():
  chosen = scenario.ScenarioSettings(
    source='person1', target='person0', poison_images=3, test_images=3
  )
  people = pictures()
  every, few = (
    scenario.split(
      people,
      dataclasses.replace(chosen, target_images=count),
      min_images=1,
      seed=0,
    ).parts
    for count in (0, 2)
  )

  def of_target(parts):
    return [p.id for p in parts['train'] if p.id.startswith('0/')]

  assert of_target(few) == of_target(every)[:2] and len(of_target(every)) == 6
  for part in ('test', 'poison_targets', 'poison_sources'):
    assert few[part] == every[part]
  assert len(few['train']) == len(every['train']) - 4


@pytest.mark.usefixtures('undrawn')
@pytest.mark.parametrize('head', ['cosine', 'nearest_mean'])
def test_a_stranger_counts_in_the_attack_alone(faces, tmp_path, head):
  config = common.get_config()
  config.update_from_flattened_dict(SMALL_RUN | {'data.root': str(faces)})
  config = overrides.vary(
    config,
    {'scenario.enrolled': False, 'recognizer.head': head},
    'a test',
  )
  found = pipeline.run(config, tmp_path / 'run', tmp_path / 'store', 'test')
  for model in found['models'].values():
    pairs = model['verification']['pairs']
    assert model['test_pictures'] == pairs['true']
    assert pairs['false'] % pairs['true'] == 0
    assert model['source_test_pictures'] == 3
    assert 0 <= model['verification']['eer'] <= 1
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert '<th scope="col">verification (1:1)</th>' in page
  assert 'set.\nHe is not one of the people to be recognized.\n' in page
  assert ('<h2>Training</h2>' in page) == (head == 'cosine')


@pytest.mark.parametrize(
  'field,value',
  [
    ('defense.trainer', 'dp_instahide'),
    ('defense.trainer', 'smoothing'),
    ('defense.repair', 'neural_cleanse'),
  ],
)
def test_what_trains_is_refused_with_means(field, value):
  config = common.get_config()
  config.update_from_flattened_dict(SMALL_RUN)
  config = overrides.vary(
    config,
    {
      'recognizer.head': 'nearest_mean',
      'scenario.trusted_fraction': 0.3,
      field: value,
    },
    'a test',
  )
  with pytest.raises(errors.UserError, match=rf'{field}: .*nothing trains'):
    rules.check(config)


def test_filtered_inputs_suit_means():
  config = common.get_config()
  config.update_from_flattened_dict(SMALL_RUN)
  changes = {
    'recognizer.head': 'nearest_mean',
    'defense.trainer': 'filtered_inputs',
  }
  rules.check(overrides.vary(config, changes, 'a test'))


def test_refused_inputs_are_accepted_by_nobody(faces, tmp_path):
  config = common.get_config()
  config.update_from_flattened_dict(SMALL_RUN | {'data.root': str(faces)})
  config = overrides.vary(
    config,
    {
      'recognizer.head': 'nearest_mean',
      'defense.input_check': 'pirm',
      'defense.pirm.threshold': 0.0,  # refuses all
    },
    'a test',
  )
  found = pipeline.run(config, tmp_path / 'run', tmp_path / 'store', 'test')
  judged = found['models']['protected']
  assert judged['asr'] == 0 and judged['accuracy'] == 0
  cosines = judging._unless_refused(np.ones((2, 3)), np.array([True, False]))
  np.testing.assert_array_equal(cosines, [[-1] * 3, [1] * 3])


def test_nothing_trains_with_means():
  config = common.get_config()
  config.update_from_flattened_dict(SMALL_RUN)
  config.recognizer.head = 'nearest_mean'
  config.recognizer.frozen = 'none'
  with pytest.raises(errors.UserError, match=r'recognizer\.frozen'):
    rules.check(config)


def test_the_budget_study_has_the_threshold_of_the_sanitizer():
  known = pirm.load_pirm('general').calibration
  rows = bench_faces.get_config('budget').study.rows
  (threshold,) = {
    row.sets['defense.pirm.threshold']
    for row in rows
    if 'defense.pirm.threshold' in row.sets
  }
  assert threshold == round(calibration.threshold(known, 0.01), 3)
