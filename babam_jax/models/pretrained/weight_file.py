"""Reads files of weights; their format is recognized by content. Nothing in
them is ever run."""

import io
import pathlib

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
  if not path.is_file():
    raise errors.UserError(
      f'weights file {path}: not found; expected a file of weights. {remedy}'
    )
  with open(path, 'rb') as file:
    start = file.read(len(torch_file.LEGACY_MAGIC))
  if start.startswith(torch_file.ZIP_MAGIC):
    read_format = torch_file.read_zip
  elif start == torch_file.LEGACY_MAGIC:
    read_format = torch_file.read_legacy
  elif start.startswith(b'\x80'):
    read_format = _read_array_pickle
  else:
    read_format = _read_safetensors
  try:
    if path.stat().st_size > _LARGEST:
      raise RefusedError(f'it has more than {_LARGEST:,} bytes')
    return read_format(path)
  except (RefusedError, RecursionError, MemoryError) as error:
    if isinstance(error, MemoryError) and not memory.is_there():
      raise
    raise refused(path, error, remedy) from None
