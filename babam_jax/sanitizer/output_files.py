"""The files of a sanitized folder: none is ever half written."""

import contextlib
import os
import pathlib
import shutil
import socket

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from babam_jax import errors

_TEMPORARY = 'unfinished'


class OutputFiles:
  """Writes files, each whole and at once in its place.

  Args:
    source: the input, whose files are copied.
    root: the folder that is being filled.
    temporary_folder: on the same disk, where files are while they are written.
  """

  def __init__(
    self,
    source: pathlib.Path,
    root: pathlib.Path,
    temporary_folder: pathlib.Path,
  ):
    self._source, self._root = source, root
    self._temporary_folder = temporary_folder

  def make_folder(self, path: pathlib.PurePosixPath) -> None:
    """Makes a folder, as in the input."""
    (self._root / path).mkdir(parents=True, exist_ok=True)

  def copy(self, path: pathlib.PurePosixPath, link: bool) -> None:
    """Copies a file of the input, byte for byte, or links it."""
    temporary = self._temporary()
    source = self._source / path
    if link:
      self._link(source.resolve(), temporary)
    else:
      shutil.copyfile(source, temporary)
      # Its times; some disks, as those of cameras, refuse the rest.
      with contextlib.suppress(OSError):
        shutil.copystat(source, temporary)
    self._place(temporary, path)

  def _link(self, source: pathlib.Path, path: pathlib.Path) -> None:
    try:
      os.link(source, path)
    except OSError as error:
      raise errors.UserError(
        f'--link: {source} cannot be linked to {self._root} '
        f'({error.strerror}); expected two folders of one file system that '
        'has hard links. Give the command without --link, and another output.'
      ) from None

  def write_png(
    self, path: pathlib.PurePosixPath, pixels: UInt8[np.ndarray, 'h w *c']
  ) -> None:
    """Writes a picture without loss."""
    temporary = self._temporary()
    Image.fromarray(pixels).save(temporary, 'PNG')
    self._place(temporary, path)

  def remove(self, path: pathlib.PurePosixPath) -> None:
    """Removes a file that was written, if it is still there."""
    (self._root / path).unlink(missing_ok=True)

  def _temporary(self) -> pathlib.Path:
    # A short name: the picture's own may have the greatest length.
    own = f'{socket.gethostname()}-{os.getpid()}'  # several may fill a folder
    path = self._temporary_folder / f'{_TEMPORARY}-{own}'
    path.unlink(missing_ok=True)
    return path

  def _place(
    self, temporary: pathlib.Path, path: pathlib.PurePosixPath
  ) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
    final = self._root / path
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, final)
