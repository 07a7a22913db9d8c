"""Pictures with a visible trigger are treated in a way of their own."""

import numpy as np
import pytest
from conftest import make_examples

from babam_jax.defenses import by_kind
from babam_jax.defenses.by_kind import ByKind
from babam_jax.defenses.calibrated_noise import CalibratedNoise
from babam_jax.defenses.suspect import Verdict

SIZE = 40
PLACE = (0.5, 0.25, 0.75, 0.5)


@pytest.fixture(scope='module')
def examples():
  return make_examples(12, size=SIZE)


@pytest.fixture(scope='module')
def verdict():
  """0 and 1 are flagged; in 1 the place is known; so it is in 2, which is not
  flagged."""
  places = np.zeros((12, 4))
  places[[1, 2]] = PLACE
  flags = np.arange(12) < 2
  return Verdict(flags.astype(float), flags, places)


def changed(examples, treated, row):
  return (treated.images[row] != examples.images[row]).any(-1)


@pytest.mark.parametrize('visible', ['noise', 'local_noise', 'inpaint'])
def test_each_picture_by_its_kind(examples, verdict, visible):
  treated = ByKind(visible=visible).treat(examples, verdict, 0)
  np.testing.assert_array_equal(treated.ids, examples.ids)
  np.testing.assert_array_equal(treated.images[2:], examples.images[2:])
  noised = CalibratedNoise().treat(examples, verdict, 0)
  np.testing.assert_array_equal(treated.images[0], noised.images[0])
  inside = np.zeros((SIZE, SIZE), bool)
  inside[10:20, 20:30] = True
  found = changed(examples, treated, 1)
  assert found[inside].mean() > 0.9
  if visible == 'noise':
    np.testing.assert_array_equal(treated.images[1], noised.images[1])
  else:
    around = by_kind.inside((SIZE, SIZE), np.array(PLACE)).astype(bool)
    assert not found[~around].any() and around.sum() < 300


def test_dropped_are_those_that_are_flagged_and_located(examples, verdict):
  treated = ByKind().treat(examples, verdict, 0)
  assert list(treated.ids) == ['id0', *(f'id{i}' for i in range(2, 12))]
  nowhere = verdict._replace(places=None)
  treated = ByKind().treat(examples, nowhere, 0)
  assert len(treated) == 12 and changed(examples, treated, 1).any()


def test_a_trigger_all_over_the_picture_leaves_nothing_to_paint_from(examples):
  flags = np.arange(12) < 1
  places = np.tile([0.0, 0.0, 1.0, 1.0], (12, 1))
  everywhere = Verdict(flags.astype(float), flags, places)
  treated = ByKind(visible='local_noise').treat(examples, everywhere, 0)
  assert changed(examples, treated, 0).mean() > 0.9
  painted = ByKind(visible='inpaint').treat(examples, everywhere, 0)
  noised = CalibratedNoise().treat(examples, everywhere, 0)
  np.testing.assert_array_equal(painted.images[0], noised.images[0])
