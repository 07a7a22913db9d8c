"""The rate of a PIRM on pictures that a user trusts, in place of those that it
was measured on."""

import concurrent.futures
import itertools
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from babam_jax import cpu, errors
from babam_jax.defenses import any_size, pirm
from babam_jax.progress import progress_bar, say
from babam_jax.sanitizer import folder, picture
from babam_jax.sanitizer.room import Room

_IN_MEMORY = 32  # pictures
_ROOM = Room(1 << 30)  # bytes, for all pictures that are being decoded


class Trusted(NamedTuple):
  """The scores of a trusted folder.

  Attributes:
    scores: from low to high.
    fingerprint: of the folder.
  """

  scores: Float[np.ndarray, ' n']
  fingerprint: str


def score(root: pathlib.Path, model: pirm.Pirm) -> Trusted:
  """Scores all pictures of a folder, at any depth; others are left out.

  Args:
    root: a folder whose pictures are clean.
    model: the PIRM.

  Raises:
    UserError: there is no such folder, or no picture in it.
  """
  if not root.is_dir():
    raise errors.UserError(
      f'--calibrate: no folder {str(root)!r}; expected a folder of pictures '
      'that you trust. Choose another one.'
    )
  inventory = folder.inventory(root)
  entries = (
    entry
    for found in folder.classes(root)
    for entry in found.entries
    if not entry.fault and not entry.litter
  )
  scores: list[float] = []
  others = 0
  with (
    progress_bar(inventory.files, 'trusted pictures', 'file') as bar,
    concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool,
  ):
    while batch := list(itertools.islice(entries, _IN_MEMORY)):
      views = list(pool.map(lambda one: _views(root / one.path, model), batch))
      read = [one for one in views if one is not None]
      others += len(batch) - len(read)
      scores += any_size.score(model, read).tolist() if read else []
      bar.update(len(batch))
  if others:
    say(f'--calibrate: {others} files of {root} are no pictures to judge')
  if not scores:
    raise errors.UserError(
      f'--calibrate: no picture in {root}; expected pictures that you trust, '
      'at any depth. Choose another folder.'
    )
  return Trusted(np.sort(scores), inventory.fingerprint())


def _views(
  path: pathlib.Path, model: pirm.Pirm
) -> tuple[any_size.View, ...] | None:
  try:
    with picture.reading(path, _ROOM) as read:
      return any_size.views(model.variant, read.pixels)
  except picture.UnjudgedError:
    return None
