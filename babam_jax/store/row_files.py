"""Files of pictures that are filled step by step; done steps survive a kill."""

import os
import pathlib
import shutil

import numpy as np
from jaxtyping import UInt8

from babam_jax import files

_DONE = 'done.json'


class RowFiles:
  """Arrays of pictures in a folder, one `.npy` file each, mapped into memory.

  Attributes:
    arrays: the arrays by name; rows written to them are kept on disk.
  """

  arrays: dict[str, UInt8[np.ndarray, 'n s s 3']]

  def __init__(self, folder: pathlib.Path, rows: dict[str, int], size: int):
    """Opens the files of a run that was killed, or makes new ones.

    Args:
      folder: the folder of the files.
      rows: the number of pictures in each.
      size: pixels a side.
    """
    self._folder = folder
    there = (folder / _DONE).exists()
    self.arrays = {
      name: np.lib.format.open_memmap(
        _path(folder, name),
        'r+' if there else 'w+',
        np.uint8,
        (count, size, size, 3),
      )
      for name, count in rows.items()
    }
    if not there:
      for name in rows:
        _reserve(_path(folder, name))
      files.write_json(folder / _DONE, 0)

  @property
  def done(self) -> int:
    """How many steps are finished."""
    return files.read_json(self._folder / _DONE)

  def finish_step(self) -> None:
    """Makes what has been written survive a kill."""
    for array in self.arrays.values():
      array.flush()
    files.write_json(self._folder / _DONE, self.done + 1)

  def hand_over(self, output: pathlib.Path) -> None:
    """Links or copies the files into `output`; the old names stay, in case of a
    kill."""
    for name in self.arrays:
      here, there = _path(self._folder, name), _path(output, name)
      try:
        os.link(here, there)
      except OSError:  # a file system without hard links
        shutil.copyfile(here, there)


def read(folder: pathlib.Path, name: str) -> UInt8[np.ndarray, 'n s s 3']:
  """Pictures that stay on disk until they are used."""
  return np.load(_path(folder, name), mmap_mode='r')


def _reserve(path: pathlib.Path) -> None:
  """Takes the disk space now: a full disk would kill a mapped write."""
  with open(path, 'r+b') as file:
    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    os.fsync(file.fileno())


def _path(folder: pathlib.Path, name: str) -> pathlib.Path:
  return folder / f'{name}.npy'
