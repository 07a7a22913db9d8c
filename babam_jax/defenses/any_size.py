"""PIRM scores and noise for pictures of any size, with few compiled shapes."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from babam_jax.defenses import calibration, grain, noise, pirm, tiling
from babam_jax.training import parallel

_ROWS_PER_STEP = {'compact': 128, 'residual': 128, 'vgg16': 16}

Picture = UInt8[np.ndarray, 'h w 3']
View = UInt8[np.ndarray, '_ _ _ 3']  # tiles of one size
# Recognizers shrink larger pictures to about this size, in pixels a side.
_RECOGNIZED = 224
_LARGE = 2 * _RECOGNIZED


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
  native = tiling.tiles(picture[None], pirm.CROP)[0]
  if min(picture.shape[:2]) < _LARGE:
    return (native,)
  size = (_RECOGNIZED, _RECOGNIZED)
  small = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
  return native, tiling.tiles(np.asarray(small)[None], pirm.CROP)[0]


def share_seen(variant: str, picture: Picture) -> float:
  """The share of a picture that its tiles at native resolution cover."""
  if variant == 'vgg16':
    return 1.0
  return tiling.share_covered(picture, pirm.CROP)


def score(
  model: pirm.Pirm, pictures: Sequence[tuple[View, ...]]
) -> Float[np.ndarray, ' n']:
  """The probability of poison for each picture, from its views."""
  found = normalized(model.calibration.strata, evidence(model, pictures))
  return calibration.probability(model.calibration, found)


def normalized(
  strata: grain.Strata | None, views: Sequence[grain.Evidence]
) -> Float[np.ndarray, ' n']:
  """The evidence of each picture: the largest of its views', each compared with
  clean pictures of its grain."""
  return np.array(
    [grain.normalized(strata, one, len(one.value)).max() for one in views]
  )


def evidence(
  model: pirm.Pirm, pictures: Sequence[tuple[View, ...]]
) -> list[grain.Evidence]:
  """What the PIRM says of each view of each picture: means over tiles."""
  flat = list(itertools.chain.from_iterable(pictures))
  counts = [len(tiles_of_view) for tiles_of_view in flat]
  step = _ROWS_PER_STEP[model.variant]
  rows = _filled(np.concatenate(flat), step)
  found = pirm.evidence(model, rows, step)
  total = sum(counts)
  owner = np.repeat(np.arange(len(flat)), counts)
  value, grains, gray = (
    np.bincount(owner, numbers[:total]) / counts for numbers in found
  )
  ends = np.cumsum(list(map(len, pictures)))
  here = [
    slice(end - len(views), end)
    for end, views in zip(ends, pictures, strict=True)
  ]
  return [grain.Evidence(value[h], grains[h], gray[h] == 1) for h in here]


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
