"""Which natural pictures the PIRM learns from, and how they are read."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Bool, UInt8

from babam_jax import errors, files, seeds
from babam_jax.data import decoding, image_folder, processing
from babam_jax.data.image_folder import Picture
from babam_jax.defenses.pirm_recipe import PirmSettings

CLASSES = ('clean', 'poison')
Images = UInt8[np.ndarray, 'n s s 3']


@dataclasses.dataclass(frozen=True)
class Chosen:
  """The pictures that are used, and how to read them.

  Attributes:
    poisoned: the pictures to be poisoned.
    sources: the pictures that poison collides with.
    rest: other clean pictures.
    gray: whether a picture becomes gray, by id.
    size: pixels a side.
    crop_seed: the seed of crops at native resolution; None: all are resized.
  """

  poisoned: list[Picture]
  sources: list[Picture]
  rest: list[Picture]
  gray: dict[str, bool]
  size: int
  crop_seed: int | None

  def load(self, pictures: list[Picture]) -> Images:
    """Reads some of the pictures."""
    loaded = image_folder.load(
      pictures,
      CLASSES,
      self.size,
      skip_unreadable=None,
      crop_seed=self.crop_seed,
    )
    images = loaded.images.copy()
    for i, picture in enumerate(pictures):
      if self.gray[picture.id]:
        images[i] = processing.as_gray(images[i])
    return images


def choose(config: PirmSettings, size: int, seed: int) -> Chosen:
  """Chooses pictures at random below `config.root`.

  Args:
    config: how the PIRM is trained.
    size: pixels a side.
    seed: the seed of the run.

  Raises:
    UserError: there are too few pictures.
  """
  root = files.named(config.root)
  ids = [
    name
    for name in image_folder.find_images(root, 'config.pirm.root')
    if not name.startswith(tuple(config.leave_out))
  ]
  count = config.num_poison
  needed = 2 * count + config.num_clean
  if len(ids) < needed:
    raise errors.UserError(
      f'config.pirm.root: {len(ids)} images below {config.root!r}; expected '
      f'{needed}: two for each of config.pirm.num_poison and one for each of '
      'config.pirm.num_clean. Lower one of them.'
    )
  order = seeds.numpy_rng(seed, 'natural pictures').permutation(len(ids))
  names = [ids[i] for i in order]
  if config.native:
    names = _large_first(names, root, size, count, config.num_clean, seed)
  names = names[:needed]
  pictures = [image_folder.in_file(root / i, i, CLASSES[0]) for i in names]
  # Many face data sets are gray.
  draws = seeds.numpy_rng(seed, 'grey').random(needed)
  return Chosen(
    pictures[:count],
    pictures[count : 2 * count],
    pictures[2 * count :],
    dict(zip(names, (draws < config.gray_fraction).tolist(), strict=True)),
    size,
    seeds.child_seed(seed, 'crops') if config.native else None,
  )


def _large_first(
  names: list[str],
  root: pathlib.Path,
  size: int,
  num_poison: int,
  num_clean: int,
  seed: int,
) -> list[str]:
  """An order in which poison and clean pictures get the large ones, and sources
  the rest: the PIRM never sees sources."""
  names = sorted(names, key=lambda name: _short_side(root / name) < size)
  seen, left = names[: num_poison + num_clean], names[num_poison + num_clean :]
  seeds.numpy_rng(seed, 'large pictures').shuffle(seen)
  return [*seen[:num_poison], *left[:num_poison], *seen[num_poison:]]


def enlarged(
  config: PirmSettings, size: int, names: list[str]
) -> Bool[np.ndarray, ' n']:
  """Which pictures are too small for `size`, and so were enlarged to it.

  Args:
    config: how the PIRM is trained.
    size: pixels a side.
    names: paths of pictures below `config.root`.
  """
  root = files.named(config.root)
  return np.array([_short_side(root / name) < size for name in names], bool)


def _short_side(path: pathlib.Path) -> int:
  """A picture's shorter side in pixels; 0 if unreadable (`load` reports it)."""
  try:
    found = decoding.header(path.read_bytes())
  except (decoding.UnreadableError, OSError):
    return 0
  return min(found.width, found.height)
