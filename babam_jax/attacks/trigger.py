"""The trigger: a small opaque patch that only the attacker knows."""

import numpy as np
from jaxtyping import Int, UInt8

from babam_jax import seeds, settings

_BLOCKS = 5  # the patch is a mosaic of 5 x 5 random colors


def make_trigger(
  seed: int, size: int, gray: bool = False
) -> UInt8[np.ndarray, 'size size 3']:
  """A colorful blocky square (Saha et al. 2020, section 4).

  Args:
    seed: the seed of its colors.
    size: in pixels a side.
    gray: whether it has the brightness of these colors alone, for pictures that
      have no others.
  """
  rng = seeds.numpy_rng(seed, 'trigger')
  colors = rng.integers(0, 256, (_BLOCKS, _BLOCKS, 3), np.uint8)
  if gray:
    brightness = colors.mean(2, keepdims=True).astype(np.uint8)
    colors = np.repeat(brightness, 3, 2)
  block = np.arange(size) * _BLOCKS // size
  return colors[block[:, None], block[None, :]]


def check_size(size: int, image_size: int, path: str) -> None:
  """Checks that a trigger fits.

  Args:
    size: the size of the trigger, in pixels a side.
    image_size: the size of the pictures, in pixels a side.
    path: the path of the setting, below `config`.

  Raises:
    UserError: it is as large as the pictures, or larger.
  """
  if size >= image_size:
    expected = f'less than config.data.size, {image_size}'
    settings.refuse(path, size, expected)


def random_corners(
  rng: np.random.Generator, count: int, image_size: int, patch_size: int
) -> Int[np.ndarray, 'count 2']:
  """Upper-left corners, uniform over [0, image_size - patch_size)**2."""
  return rng.integers(0, image_size - patch_size, (count, 2))


def show(
  images: UInt8[np.ndarray, 'n h w 3'],
  patch: UInt8[np.ndarray, 'p p 3'],
  seed: int,
  name: str,
) -> UInt8[np.ndarray, 'n h w 3']:
  """Copies of the images with the trigger, each at a random position.

  Args:
    images: gray levels.
    patch: the trigger.
    seed: the seed of the positions.
    name: the random stream of the positions.
  """
  rng = seeds.numpy_rng(seed, name)
  corners = random_corners(rng, len(images), images.shape[1], len(patch))
  return stamp(images, patch, corners)


def blend(
  images: UInt8[np.ndarray, 'n h w 3'], share: float, seed: int
) -> UInt8[np.ndarray, 'n h w 3']:
  """Copies of the images under a transparent trigger as large as they are
  (Chen et al. 2017, "Targeted backdoor attacks on deep learning systems using
  data poisoning", 5.3.1: a random pattern).

  Args:
    images: gray levels.
    share: the share of the pattern, from 0 to 1.
    seed: the seed of the pattern.
  """
  rng = seeds.numpy_rng(seed, 'blended trigger')
  pattern = rng.integers(0, 256, images.shape[1:], np.uint8)
  blended = np.empty_like(images)
  for i, image in enumerate(images):  # one at a time: floats need memory
    blended[i] = np.rint((1 - share) * image + share * pattern)
  return blended


def stamp(
  images: UInt8[np.ndarray, 'n h w 3'],
  patch: UInt8[np.ndarray, 'p p 3'],
  corners: Int[np.ndarray, 'n 2'],
) -> UInt8[np.ndarray, 'n h w 3']:
  """Copies of the images with the patch, each at its own corner."""
  patched = images.copy()
  size = len(patch)
  for image, (row, column) in zip(patched, corners, strict=True):
    image[row : row + size, column : column + size] = patch
  return patched
