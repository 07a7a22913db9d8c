"""The trigger: a small opaque patch that only the attacker knows."""

import numpy as np
from jaxtyping import Int, UInt8

from babam_jax import seeds

_BLOCKS = 5  # the patch is a mosaic of 5 x 5 random colours


def make_trigger(seed: int, size: int) -> UInt8[np.ndarray, 'size size 3']:
  """A colourful blocky square (Saha et al. 2020, section 4)."""
  rng = seeds.numpy_rng(seed, 'trigger')
  colours = rng.integers(0, 256, (_BLOCKS, _BLOCKS, 3), np.uint8)
  block = np.arange(size) * _BLOCKS // size
  return colours[block[:, None], block[None, :]]


def random_corners(
  rng: np.random.Generator, count: int, image_size: int, patch_size: int
) -> Int[np.ndarray, 'count 2']:
  """Upper-left corners, uniform over [0, image_size - patch_size)**2."""
  return rng.integers(0, image_size - patch_size, (count, 2))


def stamp(
  images: UInt8[np.ndarray, 'n h w 3'],
  patch: UInt8[np.ndarray, 'p p 3'],
  corners: Int[np.ndarray, 'n 2'],
) -> UInt8[np.ndarray, 'n h w 3']:
  """Copies of the images with the patch at each one's own corner."""
  patched = images.copy()
  size = len(patch)
  for image, (row, column) in zip(patched, corners, strict=True):
    image[row : row + size, column : column + size] = patch
  return patched
