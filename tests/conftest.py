import os
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Runs in processes of their own share what they compile.
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR', tempfile.mkdtemp(prefix='babam_xla_')
)

import pathlib

import numpy as np
import pytest
from PIL import Image

from babam_jax.data.examples import Examples

REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def make_examples(count, num_classes=3, size=8, seed=0, poisoned=()):
  rng = np.random.default_rng(seed)
  truth = np.zeros(count, bool)
  truth[list(poisoned)] = True
  return Examples(
    images=rng.integers(0, 256, (count, size, size, 3), np.uint8),
    labels=(np.arange(count) % num_classes).astype(np.int32),
    ids=np.array([f'id{i}' for i in range(count)]),
    class_names=tuple(f'class{i}' for i in range(num_classes)),
    poisoned=truth,
  )


def write_faces(root, people=4, pictures=12, size=72):
  """A folder of people that a network can tell apart: coloured blobs."""
  rng = np.random.default_rng(0)
  grid = np.mgrid[:size, :size] / size
  for person in range(people):
    colour = rng.uniform(60, 220, 3)
    centre = rng.uniform(0.3, 0.7, 2)
    folder = root / f'person{person}'
    folder.mkdir(parents=True)
    for picture in range(pictures):
      where = centre + rng.normal(0, 0.03, 2)
      distance = np.hypot(*(grid - where[:, None, None]))
      blob = np.exp(-((distance / 0.25) ** 2))[..., None] * colour
      noisy = blob + rng.normal(20, 4, (size, size, 3))
      Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
        folder / f'{picture}.png'
      )
  return root


@pytest.fixture(scope='session')
def faces(tmp_path_factory):
  return write_faces(tmp_path_factory.mktemp('faces') / 'people')
