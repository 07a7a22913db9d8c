"""Reads files of weights; their format is recognized by content. Nothing in
them is ever run."""

import io
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from babam_jax import errors, memory
from babam_jax.models.pretrained import pickle_reader, torch_file
from babam_jax.models.pretrained.pickle_reader import RefusedError, shown

_LARGEST = 1 << 32  # bytes; VGG16 has half a billion


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    return safetensors.numpy.load_file(path)
  except (KeyError, AttributeError, TypeError) as error:
    raise RefusedError(
      f'NumPy has no numbers of the kind of its tensors ({shown(str(error))}); '
      'convert them to float32'
    ) from None
  except (safetensors.SafetensorError, ValueError) as error:
    reason = shown(str(error))
    raise RefusedError(
      f'it is neither a PyTorch checkpoint nor safetensors ({reason})'
    ) from None


def _read_array_pickle(path: pathlib.Path) -> dict[str, np.ndarray]:
  tree = pickle_reader.read_arrays(io.BytesIO(path.read_bytes()))
  return flax.traverse_util.flatten_dict(tree, sep='/')


def refused(
  path: pathlib.Path, reason: object, remedy: str
) -> errors.UserError:
  """The error for a file of weights that is refused."""
  return errors.UserError(
    f'weights file {path}: refused, {reason}; expected plain arrays of '
    f'numbers. Nothing in it was run. {remedy}'
  )


@contextmanager
def guarded(
  path: pathlib.Path, largest: int, expected: str, remedy: str
) -> Iterator[None]:
  """Around the reading of a file of weights: it must be there and not too
  large, and what is refused in it is told.

  Args:
    path: the file.
    largest: in bytes.
    expected: what kind of file, for the error message.
    remedy: what to do, for the error message.

  Raises:
    UserError: the file is not there, or is refused.
  """
  if not path.is_file():
    raise errors.UserError(
      f'weights file {path}: not found; expected {expected}. {remedy}'
    )
  try:
    if path.stat().st_size > largest:
      raise RefusedError(f'it has more than {largest:,} bytes')
    yield
  except RefusedError as error:
    raise refused(path, error, remedy) from None


def read(path: pathlib.Path, remedy: str) -> dict[str, np.ndarray]:
  """Reads named arrays.

  Args:
    path: `.pth` as PyTorch writes it since 1.6 or wrote it before,
      `.safetensors`, or a pickle of nested dicts of NumPy arrays (their names
      are joined by '/').
    remedy: what to do, for the error message.

  Raises:
    UserError: the file is not there, broken, or holds anything else.
  """
  with guarded(path, _LARGEST, 'a file of weights', remedy):
    try:
      return _read_format(path)
    except (RecursionError, MemoryError) as error:
      if isinstance(error, MemoryError) and not memory.is_there():
        raise
      raise RefusedError(str(error)) from None


def _read_format(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads a file in the format that its first bytes tell."""
  with open(path, 'rb') as file:
    start = file.read(len(torch_file.LEGACY_MAGIC))
  if start.startswith(torch_file.ZIP_MAGIC):
    return torch_file.read_zip(path)
  if start == torch_file.LEGACY_MAGIC:
    return torch_file.read_legacy(path)
  if start.startswith(b'\x80'):
    return _read_array_pickle(path)
  return _read_safetensors(path)
