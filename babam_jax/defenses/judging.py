"""Judges pictures in memory, as the sanitizer judges files."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from babam_jax import errors
from babam_jax.defenses import any_size, calibration, pirm
from babam_jax.defenses.suspect import Verdict

SMALLEST = 32  # pixels a side
_IN_MEMORY = 32 << 20  # bytes of views in a batch

Pictures = UInt8[np.ndarray, 'n h w 3'] | Sequence[UInt8[np.ndarray, '_ _ 3']]


def judge(
  model: pirm.Pirm,
  images: Pictures,
  threshold: float | None,
  fpr: float | None,
) -> Verdict:
  """Does what `Pirm.judge` describes."""
  chosen = calibration.choose_threshold(
    model.calibration, threshold, fpr, prefix=''
  )
  _check(images)
  scores = np.concatenate(
    [any_size.score(model, views) for views in _batches(model.variant, images)]
  )
  return Verdict(scores, scores > chosen.value)


def _batches(
  variant: str, images: Pictures
) -> Iterator[list[tuple[any_size.View, ...]]]:
  """The views of the pictures, in batches of bounded memory."""
  batch, size = [], 0
  for picture in images:
    batch.append(any_size.views(variant, picture))
    size += sum(view.nbytes for view in batch[-1])
    if size >= _IN_MEMORY:
      yield batch
      batch, size = [], 0
  if batch:
    yield batch


def _check(images: Pictures) -> None:
  if not isinstance(images, np.ndarray | Sequence) or isinstance(images, str):
    raise errors.UserError(
      f'images: found {type(images).__name__}, expected a uint8 array '
      '[n, h, w, 3], or a list of [h, w, 3].'
    )
  if not len(images):
    raise errors.UserError('images: found none, expected one picture or more.')
  if isinstance(images, np.ndarray) and images.ndim != 4:
    raise errors.UserError(
      f'images: found an array of shape {list(images.shape)}, expected '
      '[n, h, w, 3], or a list of [h, w, 3]. Put one picture into a list.'
    )
  for number, picture in enumerate(images):
    found = f'images[{number}]: found '
    if not isinstance(picture, np.ndarray):
      raise errors.UserError(
        f'{found}{type(picture).__name__}, expected a NumPy array, uint8 '
        '[h, w, 3]. Convert it.'
      )
    shape = list(picture.shape)
    if picture.dtype != np.uint8 or picture.ndim != 3 or shape[2] != 3:
      raise errors.UserError(
        f'{found}{picture.dtype} {shape}, expected uint8 [h, w, 3], gray '
        'levels 0..255. Convert it.'
      )
    if min(shape[:2]) < SMALLEST:
      raise errors.UserError(
        f'{found}{shape[1]} x {shape[0]} pixels, expected {SMALLEST} or more '
        'a side. Leave it out.'
      )
