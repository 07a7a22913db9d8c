"""Squares of pictures at their own resolution."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

_MOST = 16  # along each side

Pixels = TypeVar('Pixels', jax.Array, np.ndarray)


def starts(length: int, tile: int) -> list[int]:
  """Where tiles begin along a side, evenly spaced from edge to edge."""
  count = min(_MOST, -(-length // tile))
  return np.linspace(0, length - tile, count).round().astype(int).tolist()


def tiles(pictures: Pixels, size: int) -> Pixels:
  """Squares of pictures at their own resolution, at most 16 along a side.

  They cover pictures of up to 1,024 pixels a side, if they have 64; in larger
  ones there are gaps between them. A picture smaller than a tile is extended by
  its mirror image.

  Args:
    pictures: [n, h, w, c].
    size: pixels a side.

  Returns:
    The tiles, [n, tiles, size, size, c].
  """
  xp: Any = np if isinstance(pictures, np.ndarray) else jnp
  height, width = pictures.shape[1:3]
  missing = [(0, max(0, size - side)) for side in (height, width)]
  if any(after for _, after in missing):
    pictures = xp.pad(pictures, ((0, 0), *missing, (0, 0)), 'symmetric')
    height, width = pictures.shape[1:3]
  return xp.stack(
    [
      pictures[:, top : top + size, left : left + size]
      for top in starts(height, size)
      for left in starts(width, size)
    ],
    axis=1,
  )


def share_covered(picture: Shaped[np.ndarray, 'h w _'], size: int) -> float:
  """The share of a picture that its tiles cover."""
  sides = picture.shape[:2]
  return float(np.prod([min(1.0, _MOST * size / side) for side in sides]))
