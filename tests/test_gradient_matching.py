"""Sleeper Agent: the gradients, against plain ones, and what they achieve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from babam_jax.attacks import gradient_matching
from babam_jax.attacks.gradient_matching import Matcher, Trained
from babam_jax.attacks.optimizers import CraftingSpec

SHAPE, CLASSES, LABEL = (6, 6, 3), 3, 1
SPEC = CraftingSpec(iterations=40, batch_size=4)


def logits(params, fixed, images):
  flat = images.reshape(len(images), -1) @ fixed
  return jnp.tanh(flat) @ params['w'] + params['b']


@pytest.fixture
def model(rng):
  return Trained(
    logits,
    {
      'w': rng.normal(size=(10, CLASSES)).astype(np.float32),
      'b': np.zeros(CLASSES, np.float32),
    },
    (rng.normal(size=(108, 10)) / 5).astype(np.float32),
  )


def plain_gradient(model, pixels):
  """The mean over pictures, one at a time."""

  def loss(params, picture):
    found = logits(params, model.fixed, picture[None])[0]
    return -jax.nn.log_softmax(found)[LABEL]

  each = [jax.grad(loss)(model.params, picture) for picture in pixels]
  return np.concatenate(
    [
      np.sum([gradient[name].ravel() for gradient in each], axis=0)
      for name in ('b', 'w')
    ]
  )


def flat(tree):
  return np.concatenate([np.ravel(tree[name]) for name in ('b', 'w')])


def test_the_wanted_gradient_against_a_plain_one(model, rng):
  """Seven pictures in batches of four: the padding does not count."""
  sources = rng.integers(0, 256, (7, *SHAPE), np.uint8)
  found = Matcher(logits, SPEC, LABEL).wanted(model, sources)
  expected = plain_gradient(model, sources / np.float32(255))
  np.testing.assert_allclose(flat(found), expected, rtol=1e-4, atol=1e-5)


def test_poison_trains_like_the_patched_source(model, rng):
  sources = rng.integers(0, 256, (5, *SHAPE), np.uint8)
  targets = rng.integers(0, 256, (7, *SHAPE), np.uint8)
  matcher = Matcher(logits, SPEC, LABEL)
  wanted = matcher.wanted(model, sources)
  start = np.zeros(targets.shape, np.float32)
  cosines = []
  delta = matcher.craft(
    model, wanted, targets, start, range(40), cosines.append
  )
  assert not start.any()  # what it was given stays
  assert np.abs(delta).max() <= 16 / 255 + 1e-6
  pixels = targets / np.float32(255) + delta
  assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6

  def angle(pixels, rows):
    a, b = plain_gradient(model, pixels[rows]), flat(wanted)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

  clean = targets / np.float32(255)
  for rows in (slice(0, 4), slice(4, 7)):  # the two batches
    assert 1 - angle(pixels, rows) < (1 - angle(clean, rows)) / 5
  assert cosines[-1] > cosines[40]  # of the second batch


def test_rounds_that_follow_each_other_go_on(model, rng):
  """Two rounds of 20 change what one has reached, within the same bounds."""
  sources = rng.integers(0, 256, (4, *SHAPE), np.uint8)
  targets = rng.integers(0, 256, (4, *SHAPE), np.uint8)
  matcher = Matcher(logits, SPEC, LABEL)
  wanted = matcher.wanted(model, sources)
  seen = []
  first = matcher.craft(
    model, wanted, targets, np.zeros(targets.shape, np.float32), range(20),
    seen.append,
  )  # fmt: skip
  second = matcher.craft(
    model, wanted, targets, first, range(20, 40), seen.append
  )
  assert np.abs(second).max() <= 16 / 255 + 1e-6
  assert (second != first).any() and seen[-1] > seen[0]


def test_the_cosine_of_gradients():
  a = {'x': jnp.array([1.0, 0]), 'y': jnp.array([2.0])}
  assert gradient_matching.cosine(a, a) == pytest.approx(1)
  minus = jax.tree.map(lambda x: -3 * x, a)
  assert gradient_matching.cosine(a, minus) == pytest.approx(-1)
  nothing = jax.tree.map(jnp.zeros_like, a)
  assert gradient_matching.cosine(a, nothing) == 0
