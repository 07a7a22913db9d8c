"""PIRM scores and noise for pictures of any size, with few compiled shapes."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from babam_jax.defenses import calibration, noise, pirm
from babam_jax.training import parallel

_MOST_TILES = 16  # along each side
_ROWS_PER_STEP = {'compact': 128, 'vgg16': 16}

Picture = UInt8[np.ndarray, 'h w 3']
View = UInt8[np.ndarray, '_ _ _ 3']  # tiles of one size
# Recognizers shrink larger pictures to about this size, in pixels a side.
_RECOGNIZED = 224
_LARGE = 2 * _RECOGNIZED


def _starts(length: int, tile: int) -> list[int]:
  """Where tiles begin along a side, evenly spaced from edge to edge."""
  count = min(_MOST_TILES, -(-length // tile))
  return np.linspace(0, length - tile, count).round().astype(int).tolist()


def tiles(picture: Picture, size: int) -> UInt8[np.ndarray, 't s s 3']:
  """Squares of a picture at its own resolution, at most 16 along a side.

  They cover pictures of up to 1,024 pixels a side; in larger ones there are
  gaps between them. A picture smaller than a tile is extended by its mirror
  image.
  """
  height, width = picture.shape[:2]
  missing = [(0, max(0, size - side)) for side in (height, width)]
  if any(after for _, after in missing):
    picture = np.pad(picture, (*missing, (0, 0)), 'symmetric')
    height, width = picture.shape[:2]
  return np.stack(
    [
      picture[top : top + size, left : left + size]
      for top in _starts(height, size)
      for left in _starts(width, size)
    ]
  )


def views(variant: str, picture: Picture) -> tuple[View, ...]:
  """The PIRM's inputs for a picture: tiles of one size, at native resolution. A
  large picture also gives tiles of a copy as small as recognizers see it, to
  find poison that was enlarged.

  The paper's variant sees the whole picture, resized to its input size.
  """
  if variant == 'vgg16':
    height, width = pirm.VGG_INPUT
    resized = Image.fromarray(picture).resize((width, height))
    return (np.asarray(resized)[None],)
  native = tiles(picture, pirm.CROP)
  if min(picture.shape[:2]) < _LARGE:
    return (native,)
  size = (_RECOGNIZED, _RECOGNIZED)
  small = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
  return native, tiles(np.asarray(small), pirm.CROP)


def share_seen(variant: str, picture: Picture) -> float:
  """The share of a picture that its tiles at native resolution cover."""
  if variant == 'vgg16':
    return 1.0
  most = _MOST_TILES * pirm.CROP
  return float(np.prod([min(1.0, most / side) for side in picture.shape[:2]]))


def score(
  model: pirm.Pirm, pictures: Sequence[tuple[View, ...]]
) -> Float[np.ndarray, ' n']:
  """The probability of poison for each picture, from its views."""
  return calibration.probability(model.calibration, evidence(model, pictures))


def evidence(
  model: pirm.Pirm, pictures: Sequence[tuple[View, ...]]
) -> Float[np.ndarray, ' n']:
  """The evidence for poison of each picture: the mean over its tiles; of two
  views, the larger mean."""
  flat = list(itertools.chain.from_iterable(pictures))
  counts = [len(tiles_of_view) for tiles_of_view in flat]
  step = _ROWS_PER_STEP[model.variant]
  rows = _filled(np.concatenate(flat), step)
  found = pirm.evidence(model, rows, step)
  owner = np.repeat(np.arange(len(flat)), counts)
  means = np.bincount(owner, found[: len(owner)]) / counts
  starts = np.cumsum([0, *map(len, pictures[:-1])])
  return np.maximum.reduceat(means, starts)


def _filled(rows: np.ndarray, step: int) -> np.ndarray:
  """Repeats rows up to a multiple of `step`: one compiled shape for all."""
  step = parallel.round_up(step)
  return parallel.pad_rows(rows, -(-len(rows) // step) * step)


def perturb(
  pictures: UInt8[np.ndarray, 'n h w c'],
  ids: Shaped[np.ndarray, ' n'],
  scales: Float[np.ndarray, ' n'],
  *,
  mode: str,
  seed: int,
) -> UInt8[np.ndarray, 'n h w c']:
  """`noise.perturb` with a dozen compiled shapes for all sizes.

  Each picture is flattened and padded to a power of two. Its noise differs
  from that of `noise.perturb`.

  Args:
    pictures: gray levels, of one channel or three; at least one.
    ids: the pictures' ids, on which their noise depends.
    scales: the scales of their noise, in gray levels: sensitivity / epsilon.
    mode: one of `noise.MODES`.
    seed: the seed of the run.
  """
  count = pictures[0].size
  lines = np.zeros(
    (len(pictures), 1 << max(12, (count - 1).bit_length())), np.uint8
  )
  lines[:, :count] = pictures.reshape(len(pictures), count)
  noised = noise.perturb(
    lines[:, None, :, None], ids, scales, mode=mode, seed=seed
  )
  return noised[:, 0, :count, 0].reshape(pictures.shape)
