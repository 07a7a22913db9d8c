import io
import itertools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPOSITORY, with_devices, write_faces
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from babam_jax import errors, files
from babam_jax.attacks import poison_set, trigger
from babam_jax.attacks.hidden_trigger import HiddenTrigger
from babam_jax.config import rules
from babam_jax.data import datasets, image_folder, origins
from babam_jax.defenses import any_size, calibration, pirm, tiling
from babam_jax.defenses.pirm_recipe import PirmSettings
from babam_jax.pirm_training import natural_pictures, pirm_stages, training_data
from babam_jax.pirm_training.transplant import transplant
from babam_jax.store import artifacts, lab
from babam_jax.training import train
from configs import pirm_general, pirm_natural

LFW = REPOSITORY.parent / 'shared' / 'data' / 'lfw12'


def load_faces(name, root, every):
  pictures = datasets.find_pictures(name, str(root))[::every]
  names = tuple(dict.fromkeys(p.class_name for p in pictures))
  return image_folder.load(pictures, names, 224, skip_unreadable=False)


@pytest.fixture(scope='module')
def shipped():
  return pirm.load(pirm.SHIPPED['shipped'])


def test_shipped_pirm_knows_its_origin(shipped):
  assert shipped.variant == 'compact'
  assert shipped.meta['holdout']['accuracy'] > 0.98
  assert shipped.meta['training_pictures'] > 500
  assert pirm.SHIPPED['shipped'].stat().st_size < 15e6


def test_shipped_pirm_passes_clean_faces(shipped):
  faces = load_faces('orl', '', every=7)
  scores = pirm.score(shipped, faces.images, 32)
  assert (scores > 0.5).mean() <= 0.02


@pytest.mark.skipif(not LFW.is_dir(), reason='needs ../shared/data/lfw12')
def test_shipped_pirm_passes_clean_lfw_faces(shipped):
  faces = load_faces('lfw', LFW, every=13)
  scores = pirm.score(shipped, faces.images, 32)
  assert len(faces) == 120 and (scores > 0.5).mean() <= 0.02


@pytest.fixture(scope='module')
def crafted(tmp_path_factory):
  """Three faces and poison that was made of them."""
  faces = load_faces('orl', '', every=1)
  images = faces.images[[0, 3, 6, 15, 18]]
  method = HiddenTrigger(iterations=30, batch_size=3)
  poison, _ = poison_set.craft_set(
    method.surrogate(0),
    method,
    images[:3],
    images[[3, 4, 3]],
    patch=trigger.make_trigger(5, 30),
    seed=5,
    scratch=tmp_path_factory.mktemp('crafting'),
  )
  assert (poison.distance_end < 0.5 * poison.distance_start).all()
  return images[:3], poison.images


def test_shipped_pirm_finds_poison_that_it_never_saw(shipped, crafted):
  originals, poison = crafted
  assert (pirm.score(shipped, poison, 8) > 0.5).all()
  assert (pirm.score(shipped, originals, 8) < 0.5).all()


def as_jpeg(image, quality):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'JPEG', quality=quality)
  return np.asarray(Image.open(file))


@pytest.fixture(scope='module')
def general():
  return pirm.load(pirm.SHIPPED['general'])


def test_general_pirm_knows_its_origin(general):
  trained = general.meta['config']
  ours = pirm_general.get_config().pirm
  assert trained['kinds'] == [dict(kind) for kind in ours.kinds]
  assert trained['epochs'] == ours.epochs
  assert general.meta['holdout']['calibration_error'] < 0.05
  assert len(general.calibration.clean) > 1000
  assert pirm.SHIPPED['general'].stat().st_size < 15e6


def test_general_pirm_finds_poison_also_in_jpeg(general, crafted):
  threshold = calibration.threshold(general.calibration, 0.01)
  originals, poison = crafted
  for process in (lambda image: image, lambda image: as_jpeg(image, 95)):
    found = np.stack([process(image) for image in poison])
    clean = np.stack([process(image) for image in originals])
    assert (pirm.score(general, found, 8) > threshold).all()
    assert (pirm.score(general, clean, 8) < threshold).all()


def test_general_pirm_passes_clean_faces(general):
  threshold = calibration.threshold(general.calibration, 0.01)
  faces = load_faces('orl', '', every=4)
  assert (pirm.score(general, faces.images, 32) > threshold).mean() <= 0.02


def test_scores_do_not_depend_on_the_batch(shipped, rng):
  images = rng.integers(0, 256, (5, 75, 80, 3), np.uint8)
  whole = pirm.score(shipped, images, 5)
  np.testing.assert_allclose(pirm.score(shipped, images, 2), whole, atol=1e-5)


@pytest.mark.parametrize('trainable', [3, 6, 9])
def test_paper_variant_trains_its_last_convolutions(trainable):
  network = pirm.vgg16_network(0, trainable, pretrained=False)
  trunk = sorted(network.params['trunk'])
  assert len(trunk) == trainable
  assert trunk[0] == {3: 'conv5_1', 6: 'conv4_1', 9: 'conv3_1'}[trainable]
  assert set(network.params) == {'trunk', 'dense1', 'dense2', 'logits'}
  assert not set(trunk) & set(network.frozen['trunk'])


def test_paper_variant_trains_and_scores(rng, tmp_path):
  images = rng.integers(0, 256, (3, 90, 90, 3), np.uint8)
  network = pirm.vgg16_network(0, 3, pretrained=False)
  spec = train.TrainSpec('adam', 1e-4, 1, 3, 1)
  labels = np.array([0, 1, 1], np.int32)
  before = jax.device_get(network.params)
  trained = train.fit(
    network, images, labels, spec, seed=0, folder=tmp_path, title='test'
  )
  assert not np.array_equal(
    before['trunk']['conv5_1']['kernel'],
    trained.params['trunk']['conv5_1']['kernel'],
  )
  model = pirm.Pirm('vgg16', pirm.variables_of(network, trained), {})
  scores = pirm.score(model, images, 3)
  assert scores.shape == (3,) and (0 < scores).all() and (scores < 1).all()


_TRAIN_COMPACT = """
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from babam_jax.defenses import pirm
from babam_jax.training import recognizer, train

images = np.random.default_rng(0).integers(0, 256, (11, 70, 70, 3), np.uint8)
labels = (np.arange(11) % 2).astype(np.int32)
# Batches of 8 and 3: with 8 devices, five of them then hold padding only.
spec = train.TrainSpec('sgd', 0.01, 1, 8, 1)
folder = pathlib.Path(sys.argv[1])
trained = train.fit(
  pirm.small_network('compact', 0), images, labels, spec, seed=0,
  folder=folder / 'checkpoints', title='test',
)
arrays = recognizer.flatten({'params': trained.params, 'stats': trained.stats})
for leaf in jax.tree.leaves(trained.params):
  assert np.isfinite(leaf).all()
np.savez(folder / 'trained.npz', **arrays)
"""


@pytest.mark.slow
def test_training_on_eight_devices_is_training_on_one(tmp_path):
  found = []
  for devices in (1, 8):
    folder = tmp_path / str(devices)
    folder.mkdir()
    subprocess.run(
      [sys.executable, '-c', _TRAIN_COMPACT, str(folder)],
      cwd=REPOSITORY,
      env=os.environ | with_devices(devices),
      check=True,
    )
    found.append(files.read_arrays(folder / 'trained.npz'))
  assert set(found[0]) == set(found[1])
  for name, one in found[0].items():
    np.testing.assert_allclose(found[1][name], one, atol=1e-4, err_msg=name)


def test_save_and_load(shipped, tmp_path, rng):
  pirm.save(shipped, tmp_path / 'pirm.npz')
  again = pirm.load(tmp_path / 'pirm.npz')
  assert again.meta == shipped.meta and again.variant == shipped.variant
  images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
  np.testing.assert_array_equal(
    pirm.score(again, images, 2), pirm.score(shipped, images, 2)
  )


def test_other_files_are_refused(tmp_path):
  path = tmp_path / 'pirm.npz'
  np.savez(path, meta=np.array([{}], dtype=object))
  with pytest.raises(errors.UserError, match='config.defense.pirm.checkpoint'):
    pirm.load(path)
  for content in (b'', b'junk', pirm.SHIPPED['shipped'].read_bytes()[:5000]):
    path.write_bytes(content)
    with pytest.raises(
      errors.UserError, match='config.defense.pirm.checkpoint'
    ):
      pirm.load(path)


def small_pirm(tmp_path):
  config = pirm_natural.get_config()
  config.pirm.root = str(write_faces(tmp_path / 'natural', 3, 10))
  config.pirm.num_poison, config.pirm.num_clean = 6, 9
  config.pirm.poison.iterations = 2
  config.pirm.poison.trigger_size = 16
  config.pirm.epochs, config.data.size = 2, 72
  return config


def in_lab(config, tmp_path, name='store'):
  experiment = rules.check(config)
  return lab.Lab(
    experiment, artifacts.Store(tmp_path / name), tmp_path / 'work'
  )


def test_natural_pictures_and_their_parts(tmp_path):
  """A tiny PIRM from folder to file, through the stages."""
  config = small_pirm(tmp_path)
  here = in_lab(config, tmp_path)
  data = training_data.make(here)
  parts = {
    part: training_data.read(data, part) for part in ('train', 'holdout')
  }
  assert [len(examples) for examples in parts.values()] == [14, 7]
  originals = {
    part: {str(i).removeprefix('poison/') for i in examples.ids}
    for part, examples in parts.items()
  }
  assert not originals['train'] & originals['holdout']
  for examples in parts.values():
    np.testing.assert_array_equal(examples.labels == 1, examples.poisoned)
    assert 0 < examples.poisoned.sum() < len(examples)
    rows = {name: row for row, name in enumerate(examples.ids)}
    for name, row in rows.items():
      if name.startswith('poison/'):  # close to its original, not equal
        original = examples.images[rows[name.removeprefix('poison/')]]
        change = examples.images[row].astype(int) - original
        assert 0 < np.abs(change).max() <= config.pirm.poison.eps
  model, artifact = pirm_stages.train_pirm(here)
  assert model.meta['training_pictures'] == 14
  # One of the two serves for the calibration.
  assert model.meta['holdout']['num_poisoned'] == 1
  assert len(model.calibration.clean) == 5
  assert (np.diff(model.calibration.clean) >= 0).all()
  history = artifact.json('history')
  assert [len(record['step_loss']) for record in history] == [1, 1]
  assert history[0]['step_loss'][0] == pytest.approx(history[0]['loss'])


def test_pairs_and_halves_keep_what_belongs_together(tmp_path):
  config = small_pirm(tmp_path)
  config.pirm.processed_copies = 3
  data = training_data.make(in_lab(config, tmp_path))
  train_part = training_data.read(data, 'train')
  pairs = training_data.pairs(train_part.poisoned)
  poisoned = train_part.poisoned[pairs]
  assert not poisoned[:, 0].any()
  beside = poisoned[:, 1]
  names = train_part.ids[pairs[beside]]
  assert len(names) == train_part.poisoned.sum()
  assert all(f'poison/{clean}' == bad for clean, bad in names)
  assert set(pairs.ravel()) == set(range(len(train_part)))
  # A poison and its original went through the same processing.
  images = train_part.images[pairs[beside]].astype(int)
  assert np.abs(images[:, 1] - images[:, 0]).mean() < 12

  holdout = training_data.read(data, 'holdout')
  half = training_data.half(holdout, 0)
  stems = np.array(
    [str(i).removeprefix('poison/').split('#')[0] for i in holdout.ids]
  )
  assert not set(stems[half]) & set(stems[~half])
  for side in (half, ~half):
    assert holdout.poisoned[side].sum() == 3
    assert abs(len(set(stems[side])) - len(set(stems)) / 2) <= 0.5


def test_hosts_get_the_changes_of_other_pictures(tmp_path):
  config = small_pirm(tmp_path)
  config.pirm.num_hosts = 5
  here = in_lab(config, tmp_path)
  data = training_data.make(here)
  assert len(training_data.read(data, 'holdout')) == 7  # as without hosts
  examples = training_data.read(data, 'train')
  assert len(examples) == 14 + 2 * 5
  rows = {str(name): row for row, name in enumerate(examples.ids)}
  hosts = natural_pictures.choose(here.experiment.pirm, 72, config.seed).hosts
  assert len(hosts) == 5
  for host in hosts:
    before, after = (
      examples.images[rows[name]].astype(int)
      for name in (host.id, f'poison/{host.id}')
    )
    assert 3 <= np.abs(after - before).max() <= config.pirm.poison.eps
  pairs = training_data.pairs(examples.poisoned)
  named = examples.ids[pairs[examples.poisoned[pairs[:, 1]]]]
  assert all(f'poison/{clean}' == bad for clean, bad in named)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 34))
def test_a_transplanted_change_is_turned_and_weakened(seed, eps):
  rng = np.random.default_rng(seed)
  host, original = rng.integers(40, 210, (2, 9, 9, 3), np.uint8)
  change = rng.integers(-eps, eps + 1, (9, 9, 3))
  change[4, 4, 0] = eps
  poison = (original + change).astype(np.uint8)
  made = transplant(host, poison, original, np.random.default_rng(seed))
  found = made.astype(int) - host
  # As one of the eight turns and six orders of the colors, weakened.
  turns = [np.rot90(change, n) for n in range(4)]
  turns += [turn[:, ::-1] for turn in turns]
  orders = list(map(list, itertools.permutations(range(3))))
  forms = [turn[..., order] for turn in turns for order in orders]
  factor = np.linspace(0.3, 1, 351)[:, None, None, None]
  strength = np.abs(found).max() / eps
  assert 0.35 - 0.5 / eps <= strength <= 1
  assert np.abs(found).max() >= min(4, eps) - 0.5
  closest = min(
    np.abs(factor * form - found).max((1, 2, 3)).min() for form in forms
  )
  assert closest <= 0.5 + eps * 0.001


def test_hosts_are_of_pictures_for_training(tmp_path):
  natural_folder(tmp_path)
  config = native_settings(tmp_path, num_hosts=20)
  chosen = natural_pictures.choose(config, 64, 0)
  assert len(chosen.hosts) == 20
  assert not files_of(chosen.hosts) & files_of(chosen.poisoned[:10])
  # They change nothing else.
  without = natural_pictures.choose(native_settings(tmp_path), 64, 0)
  for ours, theirs in (
    (chosen.poisoned, without.poisoned),
    (chosen.rest, without.rest),
  ):
    assert [p.id for p in ours] == [p.id for p in theirs]


def test_chunks_hold_the_pictures_that_they_should(tmp_path, monkeypatch):
  """Small chunks, and a kill between two of them."""
  config = small_pirm(tmp_path)
  monkeypatch.setattr(training_data, '_CHUNK', 4)
  whole = training_data.make(in_lab(config, tmp_path))

  calls = []
  craft_set = poison_set.craft_set

  def craft_once(*args, **kwargs):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return craft_set(*args, **kwargs)

  monkeypatch.setattr(poison_set, 'craft_set', craft_once)
  again = in_lab(config, tmp_path, 'again')
  with pytest.raises(KeyboardInterrupt):
    training_data.make(again)

  # A second kill: all is made, but its folder has not got its name yet.
  def killed(*args):
    raise KeyboardInterrupt

  with monkeypatch.context() as broken:
    broken.setattr(artifacts.os, 'rename', killed)
    with pytest.raises(KeyboardInterrupt):
      training_data.make(again)
  resumed = training_data.make(again)
  assert len(calls) == 3  # no chunk was made twice

  for part in ('train', 'holdout'):
    expected = training_data.read(whole, part)
    found = training_data.read(resumed, part)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.ids, expected.ids)
    # Clean rows hold the very pictures that their ids name.
    root = tmp_path / 'natural'
    chosen = natural_pictures.choose(rules.check(config).pirm, 72, config.seed)
    for row in np.flatnonzero(~found.poisoned):
      name = str(found.ids[row])
      picture = image_folder.in_file(root / name, name, 'clean')
      image = image_folder.load([picture], ('clean',), 72, False).images[0]
      if chosen.gray[name]:
        assert (found.images[row] == found.images[row][..., :1]).all()
      else:
        np.testing.assert_array_equal(found.images[row], image)


def natural_folder(root):
  """Two classes of large pictures, one of small ones."""
  rng = np.random.default_rng(0)
  for name, size, count in (
    ('a/cats', (100, 90), 10),
    ('a/tiny', (40, 40), 8),
    ('b/seas', (200, 150), 6),
  ):
    (root / name).mkdir(parents=True)
    for i in range(count):
      pixels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
      Image.fromarray(pixels).save(root / name / f'{i}.png')


def native_settings(root, **changes):
  known = {
    'root': str(root / 'a'),
    'more_roots': (str(root / 'b'),),
    'native': True,
    'num_poison': 40,
    'num_clean': 30,
    'holdout_fraction': 0.25,
  }
  return PirmSettings(**(known | changes))


def files_of(pictures):
  return {picture.id.rpartition('@')[0] for picture in pictures}


def test_crops_keep_half_of_each_folder_apart(tmp_path):
  natural_folder(tmp_path)
  chosen = natural_pictures.choose(native_settings(tmp_path), 64, 0)
  assert [len(p) for p in (chosen.poisoned, chosen.sources, chosen.rest)] == [
    40,
    40,
    30,
  ]
  held = chosen.poisoned[:10] + chosen.rest[:8]
  learned = chosen.poisoned[10:] + chosen.rest[8:]
  assert not files_of(held) & files_of(learned)
  for folder, count in (('a/cats/', 10), ('b/seas/', 6)):
    here = {name for name in files_of(held) if name.startswith(folder)}
    assert 0 < len(here) <= count // 2
  # Poison is made of crops, several of one picture, none of them alike.
  assert not any(p.id.startswith('a/tiny') for p in chosen.poisoned)
  assert all(p.id.startswith('a/tiny') for p in chosen.sources)
  assert len({p.id for p in chosen.poisoned}) == 40
  images = chosen.load(chosen.poisoned)
  assert images.shape == (40, 64, 64, 3)
  assert len({image.tobytes() for image in images}) == 40


def test_two_folders_of_one_scene_hold_out_the_same(tmp_path):
  for folder in ('noisy', 'mean'):
    write_faces(tmp_path / folder, 1, 12)
  config = PirmSettings(root=str(tmp_path))
  found = natural_pictures.find(config)
  kept = natural_pictures.held_out(found, 3)
  noisy, mean = (
    {
      name.partition('/')[2]: held
      for name, held in kept.items()
      if part in name
    }
    for part in ('noisy', 'mean')
  )
  assert noisy == mean and sum(noisy.values()) == 6


def test_two_roots_of_one_name(tmp_path):
  natural_folder(tmp_path)
  config = native_settings(tmp_path, more_roots=(str(tmp_path / 'b' / 'a'),))
  with pytest.raises(errors.UserError, match='more_roots'):
    natural_pictures.find(config)


def test_only_enlarged_pictures_are_told_apart(tmp_path):
  for name, size in (('small', (64, 300)), ('large', (72, 90))):
    Image.new('RGB', size).save(tmp_path / f'{name}.png')
  pictures = natural_pictures.find(PirmSettings(root=str(tmp_path)))
  names = [picture.id for picture in pictures]
  found = natural_pictures.enlarged(pictures, 72).tolist()
  assert dict(zip(names, found, strict=True)) == {
    'small.png': True,
    'large.png': False,
  }


def test_no_picture_is_large_enough(tmp_path):
  write_faces(tmp_path, 2, 4)
  config = PirmSettings(root=str(tmp_path), native=True)
  with pytest.raises(errors.UserError, match='have 500 pixels a side'):
    natural_pictures.choose(config, 500, 0)


@pytest.mark.parametrize('origin', dict.fromkeys(origins.ORIGINS))
def test_an_origin_changes_a_picture_and_can_be_repeated(origin, rng):
  ground = np.add.outer(np.arange(72), np.arange(96))[..., None] * [1, 0.7, 1.3]
  picture = (ground + rng.normal(0, 3, ground.shape)).clip(0, 255)
  picture = picture.astype(np.uint8)
  before = picture.copy()
  made = [origin(picture, np.random.default_rng(n)) for n in (1, 1, 2)]
  assert all(m.shape == picture.shape and m.dtype == np.uint8 for m in made)
  np.testing.assert_array_equal(made[0], made[1])
  assert (made[0] != made[2]).any() and (made[0] != picture).any()
  np.testing.assert_array_equal(picture, before)
  # Still a picture, not one gray level.
  assert made[0].std() > 3


def test_too_few_natural_pictures(tmp_path):
  config = PirmSettings(root=str(write_faces(tmp_path, 1, 5)))
  with pytest.raises(errors.UserError, match='5 images below'):
    natural_pictures.choose(config, 224, 0)


def test_a_pirm_from_the_command_line(tmp_path):
  root = write_faces(tmp_path / 'natural', 3, 10)
  fields = {
    'data.size': 72,
    'pirm.root': root,
    'pirm.num_poison': 6,
    'pirm.num_clean': 9,
    'pirm.epochs': 2,
    'pirm.poison.iterations': 2,
    'pirm.poison.trigger_size': 16,
  }
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'launch.pirm',
      '--config=configs/pirm_natural.py',
      f'--workdir={tmp_path / "work"}',
      f'--artifacts={tmp_path / "store"}',
      f'--output={tmp_path / "pirm.npz"}',
      *(f'--config.{name}={value}' for name, value in fields.items()),
    ],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert pirm.load(tmp_path / 'pirm.npz').variant == 'compact'
  page = (tmp_path / 'work' / 'report.html').read_text()
  assert '<img' in page and '14 pictures' in page


@pytest.mark.parametrize('broken', ['array', 'slope'])
def test_a_pirm_of_no_numbers_is_refused(tmp_path, broken):
  """Every score would be NaN, and nothing above any threshold."""
  arrays = files.read_arrays(pirm.path_of('general'))
  if broken == 'array':
    name = next(name for name, x in arrays.items() if x.dtype.kind == 'f')
    arrays[name] = np.full_like(arrays[name], np.nan)
  else:
    meta = json.loads(str(arrays['meta']))
    arrays['meta'] = np.array(json.dumps(meta | {'slope': float('nan')}))
  files.write_arrays(tmp_path / 'x.npz', arrays)
  with pytest.raises(errors.UserError, match='not finite'):
    pirm.load(tmp_path / 'x.npz')


@pytest.fixture(scope='module')
def residual():
  """A small network of the residual variant, with random weights."""
  network = pirm.small_network('residual', 3)
  variables = {'params': network.params, 'batch_stats': network.stats}
  return pirm.Pirm('residual', variables, {})


def test_a_residual_pirm_with_other_filters_comes_back_as_it_was(tmp_path, rng):
  network = pirm.small_network('residual', 3, filters=8)
  variables = {'params': network.params, 'batch_stats': network.stats}
  assert pirm.filters_of('residual', network.params) == 8
  made = pirm.Pirm('residual', variables, {})
  pirm.save(made, tmp_path / 'few.npz')
  again = pirm.load(tmp_path / 'few.npz')
  images = rng.integers(0, 256, (2, 70, 90, 3), np.uint8)
  np.testing.assert_array_equal(
    again.judge(images).scores, made.judge(images).scores
  )


def test_a_pirm_begins_with_the_layers_of_another_of_any_width():
  network = pirm.small_network('residual', 3, filters=8)
  variables = {'params': network.params, 'batch_stats': network.stats}
  begun = pirm.begun_from(pirm.Pirm('residual', variables, {}), 4)
  new, old = begun.params, network.params
  assert new['conv1']['kernel'] is old['conv1']['kernel']
  assert new['high_pass']['kernel'].shape == old['high_pass']['kernel'].shape
  assert not np.allclose(new['high_pass']['kernel'], old['high_pass']['kernel'])


@pytest.mark.parametrize('shape', [(), (7,), (3, 3, 12, 0), (3, 3, 12, 9)])
def test_a_residual_pirm_with_odd_filters_is_refused(residual, tmp_path, shape):
  pirm.save(residual, tmp_path / 'x.npz')
  arrays = files.read_arrays(tmp_path / 'x.npz')
  arrays['params/high_pass/kernel'] = np.zeros(shape, np.float32)
  files.write_arrays(tmp_path / 'x.npz', arrays)
  with pytest.raises(errors.UserError, match='cannot be read'):
    pirm.load(tmp_path / 'x.npz')


def test_the_residual_variant_sees_no_plain_color(residual, rng):
  images = rng.integers(60, 180, (4, 64, 64, 3), np.uint8)
  shifted = images + np.array([40, -35, 12])
  found = [
    pirm.evidence(residual, x.astype(np.uint8), 4).value
    for x in (images, shifted)
  ]
  np.testing.assert_allclose(*found, atol=1e-3)
  other = images ^ 8
  changed = pirm.evidence(residual, other, 4).value
  assert np.abs(changed - found[0]).max() > 1e-3


def test_the_residual_variant_looks_at_tiles(residual, rng):
  """In experiments as in the sanitizer: the mean over tiles."""
  images = rng.integers(0, 256, (3, 150, 100, 3), np.uint8)
  whole = pirm.evidence(residual, images, 2)
  views = [any_size.views('residual', image) for image in images]
  tiled = any_size.evidence(residual, views)
  np.testing.assert_allclose(
    whole.value, [view.value[0] for view in tiled], atol=1e-4
  )
  np.testing.assert_allclose(
    whole.grain, [view.grain[0] for view in tiled], rtol=0.05
  )
  for image, found in zip(images, whole.value, strict=True):
    parts = np.asarray(tiling.tiles(jnp.asarray(image[None]), pirm.CROP)[0])
    np.testing.assert_array_equal(
      parts, tiling.tiles(image[None], pirm.CROP)[0]
    )
    alone = pirm.evidence(residual, parts, 6).value
    assert found == pytest.approx(alone.mean(), abs=1e-4)
