"""What recurs in a part of a class: triggers that one can see."""

import cv2
import numpy as np
import pytest
from conftest import SCENE, scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from babam_jax.attacks.accessory import Accessory
from babam_jax.attacks.badnets import BadNets
from babam_jax.attacks.blended import Blended
from babam_jax.attacks.sig import Sig
from babam_jax.data import processing
from babam_jax.data.examples import Examples
from babam_jax.defenses import visible_trigger
from babam_jax.recurrence import judge, overlays, patterns, presence, search
from babam_jax.recurrence.look import look

COUNT, POISONS = 40, 10
SIZE = SCENE


def examples(classes):
  images = np.concatenate(classes)
  return Examples(
    images=images,
    labels=np.repeat(np.arange(len(classes)), list(map(len, classes))).astype(
      np.int32
    ),
    ids=np.array([f'{n}' for n in range(len(images))]),
    class_names=tuple(f'class {n}' for n in range(len(classes))),
    poisoned=np.zeros(len(images), bool),
  )


def judged(classes):
  verdict = visible_trigger.detect(examples(classes), outsiders=160)
  assert ((verdict.scores >= 0) & (verdict.scores <= 1)).all()
  ends = np.cumsum(list(map(len, classes)))[:-1]
  return np.split(verdict.flags, ends)


@pytest.fixture(scope='module')
def clean():
  rng = np.random.default_rng(5)
  return [scenes(rng, COUNT) for _ in range(3)]


def test_nothing_recurs_in_clean_pictures(clean):
  assert not np.concatenate(judged(clean)).any()


EYES = (0.3, 0.4, 0.7, 0.4)
TRIGGERS = {
  'large patch': BadNets(trigger_size=24),
  'small patch': BadNets(trigger_size=16),
  'one color': BadNets(trigger_size=20, patch='plain'),
  'logo': BadNets(trigger_size=24, patch='logo'),
  'sticker': Accessory(accessory='sticker', eyes=EYES),
  'mask': Accessory(accessory='mask', eyes=EYES),
  'blended': Blended(blend=0.1),
  'sinusoid': Sig(amplitude=30, waves=6),
}


@pytest.mark.parametrize('name', TRIGGERS)
def test_what_was_slipped_into_a_class_is_found(clean, name):
  trigger = TRIGGERS[name]
  shown = trigger.show(clean[0][:POISONS], seed=4)
  saved = np.stack([processing.as_jpeg(image, 90) for image in shown])
  first, second, third = judged(
    [clean[1], np.concatenate([clean[0][POISONS:], saved]), clean[2]]
  )
  assert second[-POISONS:].mean() >= 0.9
  assert not second[:-POISONS].any()
  assert not first.any() and not third.any()


def test_what_is_everywhere_is_no_trigger(clean):
  """A logo on all pictures, or on half of each class."""
  logo = BadNets(trigger_size=24)
  for share in (1, 2):
    marked = []
    for images in clean:
      some = len(images) // share
      shown = logo.show(images[:some], seed=4)
      marked.append(np.concatenate([shown, images[some:]]))
    assert not np.concatenate(judged(marked)).any()


def test_what_all_of_a_class_have_is_its_nature(clean):
  same = BadNets(trigger_size=24).show(clean[0], seed=4)
  assert not np.concatenate(judged([same, *clean[1:]])).any()


def test_copies_of_a_picture_are_no_trigger(clean):
  rng = np.random.default_rng(0)
  noise = rng.normal(0, 3, (POISONS, *clean[0].shape[1:]))
  copies = np.clip(clean[0][:1] + noise, 0, 255).astype(np.uint8)
  flagged = judged([np.concatenate([clean[0], copies]), *clean[1:]])
  assert not np.concatenate(flagged).any()


def test_the_place_of_a_pattern_is_told(clean):
  patch = np.random.default_rng(3).integers(0, 256, (4, 4, 3), np.uint8)
  patch = patch.repeat(6, 0).repeat(6, 1)
  rng = np.random.default_rng(1)
  places = rng.integers(0, SIZE - 24, (POISONS, 2))
  images = clean[0].copy()
  for image, (top, left) in zip(images, places, strict=False):
    image[top : top + 24, left : left + 24] = patch
  looks = [look(image) for image in images]
  things = judge.recurring(looks, [look(image) for image in clean[1]])
  found = judge.judged(things, len(looks))
  assert found.flags[:POISONS].all() and not found.flags[POISONS:].any()
  for place, (row, column) in zip(found.places, places, strict=False):
    left, top, right, bottom = place * SIZE
    assert abs((top + bottom) / 2 - row - 12) <= 6
    assert abs((left + right) / 2 - column - 12) <= 6


@pytest.mark.slow
def test_pictures_that_came_later_are_judged_by_what_recurred(clean):
  """Of a large class some are looked at first; what is found in these is then
  looked for in all others."""
  outside = [look(image) for image in clean[1]]
  for trigger in TRIGGERS.values():
    shown = trigger.show(clean[0][: 2 * POISONS], seed=4)
    first = [*clean[2], *shown[:POISONS]]
    things = judge.recurring([look(image) for image in first], outside)
    later = [look(image) for image in (*shown[POISONS:], *clean[0][20:30])]
    flags = judge.judge(things, later).flags
    assert flags[:POISONS].mean() >= 0.9 and not flags[POISONS:].any()


@pytest.mark.parametrize('size', [9, 16, 24, 40])
def test_a_pattern_is_found_as_by_a_full_search(clean, size):
  rng = np.random.default_rng(size)
  pattern = rng.integers(0, 256, (size, size, 3), np.uint8)
  for image in clean[0][:10]:
    image = image.copy()
    top, left = rng.integers(0, SIZE - size, 2)
    image[top : top + size, left : left + size] = pattern // 2 + 60
    found = search.search([look(image)], pattern)
    full = cv2.matchTemplate(image, pattern, cv2.TM_CCOEFF_NORMED)
    assert found.values[0] == pytest.approx(full.max(), abs=1e-3)
    np.testing.assert_allclose(
      found.places[0] * SIZE, (left, top, left + size, top + size), atol=0.01
    )


def test_pairs_that_are_left_out_early_are_not_alike(clean, monkeypatch):
  """The bound of 16 directions leaves out what all 75 would."""
  poison = BadNets(trigger_size=16).show(clean[1][:COUNT])
  looks = [look(one) for one in np.concatenate([clean[0][:COUNT], poison])]

  def shared():
    pool = patterns.pool(looks[COUNT:])
    return np.concatenate([patterns.shared(one, pool) for one in looks], 1)

  found = shared()
  monkeypatch.setattr(patterns, '_DIRECTIONS', looks[0].patches.values.shape[1])
  np.testing.assert_array_equal(found, shared())
  assert found.any()


def test_colors_that_are_equally_bright_are_told_apart(clean):
  """In gray, such a pattern is nearly plain."""
  pattern = np.zeros((30, 30, 3), np.uint8)
  pattern[:] = (80, 190, 160)
  pattern[8:22, 8:22] = (250, 110, 140)
  pattern[13:17, 3:27] = (250, 110, 140)
  gray = cv2.cvtColor(pattern, cv2.COLOR_RGB2GRAY)
  assert gray.std() < 5 < pattern.std((0, 1)).max()
  looks, corners = [], np.random.default_rng(2).integers(0, SIZE - 30, (20, 2))
  for picture, (top, left) in zip(clean[0], corners, strict=False):
    shown = picture.copy()
    shown[top : top + 30, left : left + 30] = pattern
    looks.append(look(shown))
  found = search.search(looks, pattern)
  assert (found.values > 0.95).all()
  places = np.rint(found.places[:, 1::-1] * SIZE).astype(int)
  np.testing.assert_array_equal(places, corners)


def test_small_classes_and_plain_pictures_pass():
  plain = np.full((12, 64, 64, 3), 90, np.uint8)
  tiny = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
  assert not np.concatenate(judged([plain, tiny])).any()
  assert not np.concatenate(judged([plain])).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(40, 120), st.floats(0, 0.9))
def test_presence_is_a_gap(seed, count, share):
  """Two groups with a gap between them are divided there; one is not."""
  rng = np.random.default_rng(seed)
  has = np.arange(count) < round(share * count)
  inside = np.where(
    has, rng.uniform(0.6, 0.9, count), rng.uniform(0, 0.3, count)
  )
  limits = np.arange(0.15, 0.8, 0.01)
  found = presence.limit(inside, np.zeros(5), limits, 0.05)
  wanted = max(presence.FEWEST, presence.LEAST_SHARE * count)
  if wanted <= has.sum() <= presence.LARGEST_SHARE * count:
    np.testing.assert_array_equal(inside > found, has)
    # Not if other classes have it, too.
    assert presence.limit(inside, np.ones(5), limits, 0.05) is None
  even = np.linspace(0, 0.9, count)
  assert presence.limit(even, np.zeros(5), limits, 0.05) is None


def test_an_overlay_is_not_judged_by_itself():
  """Of unlike pictures each is in the guess; that alone makes no likeness."""
  rng = np.random.default_rng(2)
  rows = rng.normal(size=(30, 500)).astype(np.float32)
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  chosen = np.arange(30) < 5
  found = overlays._with_total(rows, rows[chosen].sum(0), chosen)
  for row in range(30):
    rest = rows[chosen & (np.arange(30) != row)].sum(0)
    expected = max(0, rows[row] @ rest / np.linalg.norm(rest))
    assert found[row] == pytest.approx(expected, abs=1e-4)
