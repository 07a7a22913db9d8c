"""Rates that hold for the user's own pictures, or a word that they do not."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import write_faces
from PIL import Image
from scipy import special

from babam_jax import errors, files, sanitize_folder
from babam_jax.defenses import any_size, grain, pirm
from babam_jax.sanitizer import bulk, trusted


def normal_scores(rng, middle, spread, count):
  return special.expit(rng.normal(middle, spread, count))


@pytest.mark.parametrize('poisoned', [0, 0.03, 0.1])
def test_the_expected_share_is_that_of_the_clean_pictures(rng, poisoned):
  """Clean pictures that score higher than stored, and poison beside them."""
  stored = np.sort(normal_scores(rng, -4, 1, 4000))
  threshold = float(np.quantile(stored, 0.99))
  like_stored = normal_scores(rng, -4, 1, 3000)
  noisy = normal_scores(rng, -3, 1.2, 3000)
  true = (noisy > threshold).mean()
  assert true > 0.1
  poison = normal_scores(rng, 4, 1, int(3000 * poisoned / (1 - poisoned)))
  same = np.r_[like_stored, poison]
  assert bulk.expected_share(same, threshold, stored) < 0.03 + 0.15 * poisoned
  other = bulk.expected_share(np.r_[noisy, poison], threshold, stored)
  assert true * 0.7 < other < true * (1.4 + 3 * poisoned)


def test_too_few_pictures_tell_nothing(rng):
  stored = np.sort(rng.random(500))
  few, enough = rng.random(bulk.FEWEST - 1), rng.random(bulk.FEWEST)
  assert bulk.expected_share(few, 0.99, stored) is None
  assert bulk.expected_share(enough, 0.99, stored) is not None
  assert bulk.expected_share(enough, 0.99, stored[:10]) is None
  assert bulk.expected_share(enough, 0.99, np.zeros(500)) is None  # all alike


def test_scores_of_nought_and_one_are_counted(rng):
  stored = np.sort(rng.random(500))
  found = bulk.expected_share(np.array([0.0, 1.0] * 40), 0.5, stored)
  assert 0 <= found <= 1


def noisy_faces(root, deviation, count, seed=0):
  """Class folders of smooth pictures with noise."""
  rng = np.random.default_rng(seed)
  for i in range(count):
    folder = root / f'p{i // 10}'
    folder.mkdir(parents=True, exist_ok=True)
    ground = rng.uniform(60, 190, 3) + np.linspace(-30, 30, 80)[:, None, None]
    image = ground + rng.normal(0, deviation, (80, 80, 3))
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f'{i}.png')


def test_the_rate_is_that_of_the_trusted_pictures(tmp_path):
  noisy_faces(tmp_path / 'trusted', 25, 120)
  noisy_faces(tmp_path / 'in', 25, 100, seed=1)
  before = {p: p.read_bytes() for p in (tmp_path / 'trusted').rglob('*.png')}
  found = sanitize_folder(
    tmp_path / 'in',
    tmp_path / 'out',
    action='report',
    fpr=0.05,
    calibrate=tmp_path / 'trusted',
  )
  model = pirm.load_pirm()
  scores = np.sort(
    [
      any_size.score(model, [any_size.views(model.variant, pixels)])[0]
      for pixels in (
        np.asarray(Image.open(path).convert('RGB')) for path in before
      )
    ]
  )
  # The sixth from above: 0.05 x 121, rounded down.
  assert found.threshold == pytest.approx(scores[120 - 6], abs=1e-5)
  assert found.flagged <= 14  # 5 expected; binomial: 1 in 5,000 are more
  assert {p: p.read_bytes() for p in before} == before
  told = json.loads(found.summary.read_text())['settings']
  assert len(told['calibrated_on']) == 64


def test_other_trusted_pictures_are_another_command(tmp_path):
  noisy_faces(tmp_path / 'in', 3, 10)
  noisy_faces(tmp_path / 'trusted', 3, 100)
  options = {'action': 'report', 'calibrate': tmp_path / 'trusted'}
  first = sanitize_folder(tmp_path / 'in', tmp_path / 'out', **options)
  again = sanitize_folder(tmp_path / 'in', tmp_path / 'out', **options)
  assert again == first
  noisy_faces(tmp_path / 'trusted', 3, 110, seed=4)
  with pytest.raises(errors.UserError, match='--output'):
    sanitize_folder(tmp_path / 'in', tmp_path / 'out', **options)


def test_too_few_trusted_pictures_for_the_rate(tmp_path):
  noisy_faces(tmp_path / 'in', 3, 10)
  noisy_faces(tmp_path / 'trusted', 3, 98)
  (tmp_path / 'trusted' / 'p0' / 'notes.png').write_text('no picture')
  with pytest.raises(errors.UserError, match='--fpr.*98 clean pictures'):
    sanitize_folder(
      tmp_path / 'in', tmp_path / 'out', calibrate=tmp_path / 'trusted'
    )
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('made', [False, True])
def test_a_trusted_folder_that_is_none(tmp_path, made):
  root = tmp_path / 'trusted'
  if made:
    root.mkdir()
  with pytest.raises(errors.UserError, match='^--calibrate: no '):
    trusted.score(root, pirm.load_pirm())


# --- Strata ---


def clean_evidence(rng, count):
  """Evidence whose median and spread grow with the grain."""
  roughness = 2 ** rng.uniform(-2, 4, count)
  value = -6 + 1.5 * np.log2(roughness + 0.25) + rng.normal(0, 1, count)
  gray = rng.random(count) < 0.4
  return grain.Evidence(value + 2 * gray, roughness, gray)


def test_every_grain_has_the_stated_rate(rng):
  strata = grain.fit(clean_evidence(rng, 20_000))
  fresh = clean_evidence(rng, 60_000)
  for views, share in ((1, 0.01), (2, 0.005)):
    scaled = grain.normalized(strata, fresh, views)
    edges = np.quantile(fresh.grain, [0, 0.2, 0.4, 0.6, 0.8, 1])
    for gray in (False, True):
      for low, high in zip(edges[:-1], edges[1:], strict=True):
        here = (fresh.grain >= low) & (fresh.grain < high)
        here &= fresh.gray == gray
        found = (scaled[here] > 1).mean()
        assert 0.2 * share < found < 2.5 * share, (gray, low, found)
        assert abs(np.median(scaled[here])) < 0.15
  # As it is, the evidence of rough pictures is all above that of smooth ones.
  limit = np.quantile(fresh.value, 0.99)
  rough = fresh.grain > np.quantile(fresh.grain, 0.9)
  assert (fresh.value[rough] > limit).mean() > 0.04


def test_too_few_pictures_make_no_strata(rng):
  assert grain.fit(clean_evidence(rng, 500)) is None
  few = clean_evidence(rng, 100)
  np.testing.assert_array_equal(grain.normalized(None, few, 1), few.value)


def test_grain_is_the_deviation_of_noise(rng):
  flat = np.full((3, 64, 64, 3), 128.0)
  ramp = np.linspace(-40, 40, 64)[:, None]
  for deviation in (2, 5, 10):
    noise = rng.normal(0, deviation, flat.shape)
    images = np.rint(flat + ramp + noise).clip(0, 255).astype(np.uint8)
    found, gray = grain.look(jnp.asarray(images))
    np.testing.assert_allclose(found, deviation, rtol=0.05)
    assert not gray.any()
  alike = np.repeat(images[..., :1], 3, axis=-1)
  assert grain.look(jnp.asarray(alike))[1].all()


def test_strata_survive_the_file(tmp_path, rng):
  model = pirm.load_pirm('shipped')
  strata = grain.fit(clean_evidence(rng, 5000))
  known = model.calibration._replace(strata=strata)
  pirm.save(model._replace(calibration=known), tmp_path / 'a.npz')
  read = pirm.load(tmp_path / 'a.npz').calibration.strata
  for ours, theirs in zip(strata, read, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
  'broken',
  [
    {'strata_quantiles': np.zeros((2, 3, 3), np.float32)},
    {'strata_position': np.zeros((2, 16), np.float32) * np.nan},
    {'strata_position': np.arange(32, 0, -1, np.float32).reshape(2, 16)},
    {'strata_quantiles': -np.arange(96, dtype=np.float32).reshape(2, 16, 3)},
  ],
)
def test_broken_strata_are_refused(tmp_path, rng, broken):
  model = pirm.load_pirm('shipped')
  strata = grain.fit(clean_evidence(rng, 5000))
  known = model.calibration._replace(strata=strata)
  pirm.save(model._replace(calibration=known), tmp_path / 'a.npz')
  arrays = files.read_arrays(tmp_path / 'a.npz')
  files.write_arrays(tmp_path / 'b.npz', arrays | broken)
  with pytest.raises(errors.UserError, match='strata'):
    pirm.load(tmp_path / 'b.npz')


def test_small_folders_say_nothing_of_their_rate(tmp_path):
  write_faces(tmp_path / 'in', 2, 3)
  found = sanitize_folder(tmp_path / 'in', tmp_path / 'out', action='report')
  assert found.rate_holds and not found.why_rate_fails
