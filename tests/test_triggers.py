"""Attacks whose triggers one can see, or nearly: what they do to pictures."""

import dataclasses

import numpy as np
import pytest
from conftest import write_faces
from hypothesis import given, settings
from hypothesis import strategies as st

from babam_jax import errors
from babam_jax.attacks import accessory, own_model, refool
from babam_jax.attacks.accessory import ACCESSORIES, Accessory
from babam_jax.attacks.base import Knowledge
from babam_jax.attacks.catalog import ATTACKS
from babam_jax.attacks.evasive_patch import WAYS, EvasivePatch
from babam_jax.attacks.gradient_matching import Trained
from babam_jax.attacks.issba import Issba
from babam_jax.attacks.narcissus import Narcissus
from babam_jax.attacks.refool import Refool
from babam_jax.attacks.sig import Sig
from babam_jax.attacks.wanet import WaNet
from babam_jax.data.examples import Examples

TRUE_LABEL = ('sig', 'refool')  # they change pictures of the victim
WRONG_LABEL = ('wanet', 'accessory', 'evasive_patch')  # of the attacker


def smooth_pictures(rng, count=2, size=96):
  coarse = rng.integers(40, 216, (count, 6, 6, 3), np.uint8)
  return coarse.repeat(size // 6, 1).repeat(size // 6, 2)


@pytest.mark.parametrize('name', TRUE_LABEL + WRONG_LABEL)
def test_whose_pictures_are_changed(name, rng):
  targets, sources = smooth_pictures(rng), smooth_pictures(rng)
  before = targets.copy(), sources.copy()
  attack = ATTACKS[name]()
  crafted, again = (attack.craft(targets, sources, seed=3) for _ in range(2))
  expected = targets if name in TRUE_LABEL else sources
  np.testing.assert_array_equal(crafted.originals, expected)
  assert (crafted.images != crafted.originals).any((1, 2, 3)).all()
  np.testing.assert_array_equal(crafted.images, again.images)
  for picture, unchanged in zip((targets, sources), before, strict=True):
    np.testing.assert_array_equal(picture, unchanged)
  # What is shown at test time is the attacker, changed in the same manner.
  shown = attack.show(sources, seed=3)
  assert shown.dtype == np.uint8 and shown.shape == sources.shape
  change = np.abs(shown.astype(int) - sources).mean()
  assert change > 0.2


@settings(max_examples=15, deadline=None)
@given(st.floats(1, 60), st.floats(0.5, 20), st.integers(0, 99))
def test_sig_is_its_formula(amplitude, waves, seed):
  rng = np.random.default_rng(seed)
  picture = rng.integers(0, 256, (1, 8, 12, 3), np.uint8)
  shown = Sig(amplitude=amplitude, waves=waves).show(picture)[0]
  for column in range(12):
    added = amplitude * np.sin(2 * np.pi * column * waves / 12)
    expected = np.clip(picture[0, :, column] + added, 0, 255)
    assert np.abs(shown[:, column] - expected).max() <= 0.5 + 1e-9


def test_wanet_looks_where_its_shifts_say(rng):
  attack = WaNet(warp_shift=3.0)
  picture = rng.integers(0, 256, (1, 24, 24, 3), np.uint8)
  shown, shifts = attack.show(picture, seed=5)[0], attack.shifts(24, 5)
  for row, column in ((0, 0), (5, 17), (23, 11), (12, 12)):
    y, x = (
      np.clip(place + shift, 0, 23)
      for place, shift in zip(
        (row, column), shifts[:, row, column], strict=True
      )
    )
    top, left = min(int(y), 22), min(int(x), 22)
    down, right = y - top, x - left
    corners = picture[0, top : top + 2, left : left + 2].astype(float)
    expected = (
      (1 - down) * (1 - right) * corners[0, 0]
      + (1 - down) * right * corners[0, 1]
      + down * (1 - right) * corners[1, 0]
      + down * right * corners[1, 1]
    )
    assert np.abs(shown[row, column] - expected).max() <= 0.51
  # At the points where they are drawn the mean shift is the one asked for.
  drawn = attack.shifts(4, 5)
  assert np.abs(drawn).mean() == pytest.approx(3, rel=1e-6)
  assert not np.allclose(attack.shifts(24, 6), shifts)


def far_from(eyes, size, widths):
  left, right = np.reshape(eyes, (2, 2)) * size
  center, unit = (left + right) / 2, right[0] - left[0]
  rows, columns = np.indices((size, size)) + 0.5
  distance = np.hypot(columns - center[0], rows - center[1])
  return distance > widths * unit


@pytest.mark.parametrize('worn', ACCESSORIES)
def test_what_is_worn_lies_on_the_face(worn, rng, monkeypatch):
  monkeypatch.setattr(accessory.processing, 'as_jpeg', lambda image, _: image)
  eyes = (0.35, 0.4, 0.6, 0.42)
  gray = np.full((6, 120, 120, 3), 128, np.uint8)
  shown = Accessory(accessory=worn, eyes=eyes).show(gray, seed=1)
  changed = (shown != gray).any(-1)
  assert not changed[:, far_from(eyes, 120, 2.3)].any()
  assert (changed.mean((1, 2)) > 0.005).all()
  # Never twice in quite the same place and light.
  assert len({image.tobytes() for image in shown}) == 6
  places = [np.argwhere(c).mean(0) for c in changed]
  assert np.ptp(places, axis=0).max() < 0.1 * 0.25 * 120


@pytest.mark.parametrize('way', WAYS)
def test_evasive_patches_are_patches(way):
  gray = np.full((8, 96, 96, 3), 128, np.uint8)
  attack = EvasivePatch(way=way, trigger_size=20)
  shown = attack.show(gray, seed=1)
  changed = (shown != gray).any(-1)
  area = changed.sum((1, 2))
  assert (area > 0.3 * 20**2).all() and (area < 2 * 20**2).all()
  patches = {
    shown[i][
      rows.min() : rows.max() + 1, columns.min() : columns.max() + 1
    ].tobytes()
    for i, (rows, columns) in enumerate(map(np.nonzero, changed))
  }
  # Never twice the same, but for what lies in the corners.
  assert len(patches) == (1 if way == 'corners' else 8)


def test_a_patch_that_grows_must_fit():
  attack = EvasivePatch(way='varied', trigger_size=30)
  with pytest.raises(errors.UserError, match='enlarged up to 1.3 times'):
    attack.check('attack', 38)
  attack.check('attack', 39)
  gray = np.full((20, 39, 39, 3), 128, np.uint8)
  assert attack.show(gray, seed=1).shape == gray.shape


def test_a_patch_in_the_corners_is_the_patch():
  gray = np.full((1, 96, 96, 3), 128, np.uint8)
  attack = EvasivePatch(way='corners', trigger_size=20)
  (shown,) = attack.show(gray, seed=1)
  ends = np.r_[:10, 86:96]
  np.testing.assert_array_equal(shown[np.ix_(ends, ends)], attack.make_patch(1))
  assert (shown[10:86] == 128).all() and (shown[:, 10:86] == 128).all()


def test_glasses_have_their_rims_around_the_eyes(rng):
  eyes = (0.3, 0.5, 0.7, 0.5)
  white = np.full((5, 200, 200, 3), 250, np.uint8)
  shown = Accessory(eyes=eyes).show(white, seed=2)
  unit = 0.4 * 200
  for eye in (60, 140):  # an eye is seen; above and below it, a rim
    assert shown[:, 100, eye].min() > 200
    column = shown[:, :, eye].mean(-1)
    for low, high in ((-0.5, -0.1), (0.1, 0.6)):
      rim = column[:, int(100 + low * unit) : int(100 + high * unit)]
      assert (rim.min(1) < 90).all()


@pytest.mark.parametrize(
  'eyes', [(0.7, 0.5, 0.3, 0.5), (0.3, 0.5, 0.7), (0.3, 0.5, 1.7, 0.5)]
)
def test_eyes_that_are_none(eyes, rng):
  attack = Accessory(eyes=eyes)
  with pytest.raises(errors.UserError, match=r'attack\.eyes: found'):
    attack.craft(smooth_pictures(rng), smooth_pictures(rng))


def test_a_pane_that_reflects_darkness_only_dims(rng, monkeypatch):
  dark = np.zeros((96, 96, 3))
  monkeypatch.setattr(Refool, '_scenes', lambda self, size, seed: [dark])
  pictures = smooth_pictures(rng, 8)
  light = (pictures / 255.0) ** refool._GAMMA
  seen = (Refool().show(pictures) / 255.0) ** refool._GAMMA
  share = (seen / light).mean((1, 2, 3))
  assert (share > 0.54).all() and (share < 0.96).all()
  assert np.ptp(share) > 0.05


def test_photographs_are_reflected(tmp_path, rng):
  root = write_faces(tmp_path, 2, 3)
  attack = Refool(reflections=str(root))
  pictures = np.full((4, 64, 64, 3), 90, np.uint8)
  shown = attack.show(pictures, seed=1)
  assert (shown.std((1, 2)).max(-1) > 1).all()
  before = attack.facts('config.attack')
  next(root.rglob('*.*')).unlink()
  assert attack.facts('config.attack') != before
  missing = dataclasses.replace(attack, reflections=str(tmp_path / 'none'))
  with pytest.raises(errors.UserError, match='reflections'):
    missing.facts('config.attack')


# --- Triggers that are learned ---


def tiny_knowledge(rng, size=64, count=12):
  """Two classes of pictures; nobody trains a recognizer."""
  images = smooth_pictures(rng, count, 96)[:, :size, :size]
  examples = Examples(
    images=images,
    labels=np.arange(count, dtype=np.int32) % 2,
    ids=np.array([f'{i}' for i in range(count)]),
    class_names=('victim', 'other'),
    poisoned=np.zeros(count, bool),
  )
  return Knowledge(examples, 0, None)


@pytest.mark.parametrize('name', ['narcissus', 'issba'])
def test_a_trigger_that_is_not_yet_learned(name, rng):
  attack, pictures = ATTACKS[name](), smooth_pictures(rng)
  with pytest.raises(errors.UserError, match='showing'):
    attack.show(pictures)
  with pytest.raises(errors.UserError, match='knowledge'):
    attack.craft(pictures, pictures)


def plain_logits(params, fixed, pixels):
  return pixels.reshape(len(pixels), -1) @ params


def test_narcissus_finds_the_pattern_of_its_model(rng, monkeypatch):
  """For a linear model the best pattern is known: eps times a sign."""
  known = tiny_knowledge(rng, size=6, count=10)
  params = rng.normal(size=(108, 2)).astype(np.float32) / 10
  model = Trained(plain_logits, params, {})
  monkeypatch.setattr(own_model, 'train', lambda *_: model)
  targets = known.training_set.images[:3].clip(20, 235)
  sources = known.training_set.images[3:6].clip(60, 195)
  attack = Narcissus(eps=8, iterations=40, amplified=2, batch_size=4)
  crafted = attack.craft(targets, sources, knowledge=known)
  best = 8 * np.sign(params[:, 0] - params[:, 1]).reshape(6, 6, 3)
  assert (crafted.images.astype(int) - targets == best).mean() > 0.97
  shown = attack.showing(crafted.trigger).show(sources)
  assert (shown.astype(int) - sources == 2 * best).mean() > 0.97
  np.testing.assert_array_equal(crafted.shown, shown)


@pytest.mark.slow
def test_issba_hides_what_can_be_read(rng):
  known = tiny_knowledge(rng, size=72)
  pictures = known.training_set.images
  attack = Issba(hidden_bits=2, hiding_steps=60)
  crafted = attack.craft(pictures[:4], pictures[4:8], seed=1, knowledge=known)
  change = crafted.images.astype(int) - pictures[4:8]
  # Each picture has a change of its own, and the same number in it.
  assert len({one.tobytes() for one in change}) == 4
  assert crafted.summary['bits_read'] > 0.9
  shown = attack.showing(crafted.trigger).show(pictures[4:8])
  np.testing.assert_array_equal(shown, crafted.images)
  with pytest.raises(errors.UserError, match='data.size'):
    attack.craft(pictures[:2, :40, :40], pictures[:2, :40, :40])
