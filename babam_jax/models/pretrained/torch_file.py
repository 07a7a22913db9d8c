"""PyTorch checkpoints read without PyTorch, and without running anything.

`torch.save` has written two formats: since 1.6 a zip file of a pickle and one
file per storage, before that a series of pickles followed by the storages. In
both, the pickle only says where each tensor lies.
"""

import errno
import io
import math
import pathlib
import struct
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from babam_jax.models.pretrained import pickle_reader
from babam_jax.models.pretrained.pickle_reader import (
  Global,
  RefusedError,
  shown,
)

LEGACY_MAGIC = bytes.fromhex('80028a0a6cfc9c46f9206aa850192e')
ZIP_MAGIC = b'PK\x03\x04'
_DTYPES = {
  'FloatStorage': np.float32,
  'DoubleStorage': np.float64,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}
_STORAGE_NAMES = frozenset(Global('torch', name) for name in _DTYPES)
_LARGEST_PICKLE = 1 << 24  # a pickle of names and shapes is far smaller
_MOST_MEMBERS = 10_000


class _Storage(NamedTuple):
  key: str
  dtype: np.dtype
  size: int  # in elements


class _Tensor(NamedTuple):
  """Where a tensor lies; its numbers are read later."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _storage(identity: Any) -> _Storage:
  """A persistent id: ('storage', type, key, device, size[, view])."""
  if not isinstance(identity, tuple) or len(identity) not in (5, 6):
    raise RefusedError('it has a broken storage')
  kind, name, key, _, size, *view = identity
  if (
    kind != 'storage'
    or not isinstance(name, Global)
    or name not in _STORAGE_NAMES
    or not isinstance(key, str)
    or type(size) is not int
    or not 0 <= size < 2**40
    or view not in ([], [None])
  ):
    raise RefusedError('it has a broken storage')
  return _Storage(key, np.dtype(_DTYPES[name.name]), size)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest):
  shape = pickle_reader.checked_shape(shape)
  strides = pickle_reader.checked_shape(strides)
  if (
    not isinstance(storage, _Storage)
    or type(offset) is not int
    or len(shape) != len(strides)
  ):
    raise RefusedError('it has a broken tensor')
  count = math.prod(shape)
  reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
  if count and not (0 <= offset and offset + reach <= storage.size >= count):
    raise RefusedError(
      f'it declares a tensor of shape {list(shape)} that exceeds its storage '
      f'of {storage.size:,} numbers'
    )
  return _Tensor(storage, offset, shape, strides)


def _ordered_dict(pairs: Any = ()) -> dict:
  """An empty dict, or one from a list of [name, value], Python 2's form."""
  if not isinstance(pairs, list | tuple) or not all(
    isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
    for pair in pairs
  ):
    raise RefusedError('it has a dict of an unknown form')
  return dict(pairs)


def _parameter(tensor: Any, *rest) -> Any:
  return tensor


# Under which training scripts store a model beside their own state.
_WRAPPERS = ('model_state_dict', 'state_dict', 'model', 'net', 'network')
_CONSTRUCTORS = {
  Global('collections', 'OrderedDict'): _ordered_dict,
  Global('torch._utils', '_rebuild_tensor'): _rebuild_tensor,
  Global('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
  Global('torch._utils', '_rebuild_parameter'): _parameter,
  Global('torch.nn.parameter', 'Parameter'): _parameter,
}


def _read_pickle(file: io.BytesIO, persistent=_storage) -> Any:
  return pickle_reader.read(file, _CONSTRUCTORS, _STORAGE_NAMES, persistent)


def _state_dict(content: Any) -> dict[str, _Tensor]:
  """The tensors by name; training scripts wrap them in a dict."""
  for wrapper in _WRAPPERS:
    if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
      content = content[wrapper]
  if not isinstance(content, dict) or not content:
    raise RefusedError(
      f'it holds a {type(content).__name__}, not the state_dict of a model'
    )
  for name, value in content.items():
    if not isinstance(name, str) or not isinstance(value, _Tensor):
      raise RefusedError(
        f'its entry {shown(name)} is a {type(value).__name__}, not a tensor'
      )
  return content


def _materialize(tensor: _Tensor, content: bytes) -> np.ndarray:
  dtype, declared = tensor.storage.dtype, tensor.storage.size
  if len(content) != declared * dtype.itemsize:
    raise RefusedError(
      f'storage {shown(tensor.storage.key)} has {len(content):,} bytes, its '
      f'pickle declares {declared * dtype.itemsize:,}'
    )
  if not math.prod(tensor.shape):
    return np.zeros(tensor.shape, dtype)
  return np.ndarray(
    tensor.shape,
    dtype,
    content,
    tensor.offset * dtype.itemsize,
    tuple(stride * dtype.itemsize for stride in tensor.strides),
  )


def read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads what `torch.save` writes since PyTorch 1.6.

  Raises:
    RefusedError: the file is broken or holds anything but tensors.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      root = _check_members(archive, path.stat().st_size)
      pickled = io.BytesIO(archive.read(f'{root}/data.pkl'))
      tensors = _state_dict(_read_pickle(pickled))
      contents = {
        key: archive.read(f'{root}/data/{key}')
        for key in {tensor.storage.key for tensor in tensors.values()}
      }
  except OSError as error:
    if error.errno != errno.EINVAL:  # a member whose offset is before the file
      raise
    raise RefusedError('its zip structure is broken') from None
  except KeyError as error:
    reason = shown(error.args[0])
    raise RefusedError(f'it lacks a member: {reason}') from None
  except (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OverflowError,
    UnicodeDecodeError,
    struct.error,
  ) as error:
    reason = shown(str(error))
    raise RefusedError(f'its zip structure is broken: {reason}') from None
  return {
    name: _materialize(tensor, contents[tensor.storage.key])
    for name, tensor in tensors.items()
  }


def _check_members(archive: zipfile.ZipFile, file_size: int) -> str:
  """The name of the folder that holds all members."""
  members = archive.infolist()
  names = [member.filename for member in members]
  if not members or len(members) > _MOST_MEMBERS:
    raise RefusedError(f'it has {len(members):,} members')
  if len(set(names)) < len(names):
    raise RefusedError('it has two members of the same name')
  for member in members:
    parts = member.filename.split('/')
    if '\\' in member.filename or not all(parts) or '..' in parts:
      raise RefusedError(
        f'its member {shown(member.filename)} is no plain path'
      )
    if member.compress_type != zipfile.ZIP_STORED:
      raise RefusedError(
        f'its member {shown(member.filename)} is compressed; torch.save does '
        'not compress'
      )
    if member.file_size != member.compress_size:
      raise RefusedError(f'its member {shown(member.filename)} lies about size')
    if parts[-1] == 'data.pkl' and member.file_size > _LARGEST_PICKLE:
      raise RefusedError(f'its pickle has {member.file_size:,} bytes')
  if sum(member.file_size for member in members) > file_size:
    raise RefusedError('its members claim more bytes than it has')
  roots = {name.split('/')[0] for name in names}
  if len(roots) != 1:
    raise RefusedError('its members do not lie in one folder')
  (root,) = roots
  order = f'{root}/byteorder'
  if order in names and archive.read(order) != b'little':
    raise RefusedError('its numbers are not little-endian')
  return root


def read_legacy(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads what `torch.save` wrote before PyTorch 1.6.

  Raises:
    RefusedError: the file is broken or holds anything but tensors.
  """
  file = io.BytesIO(path.read_bytes())
  _read_pickle(file)  # the magic number
  if _read_pickle(file) != 1001:
    raise RefusedError('its protocol is not 1001')
  _read_pickle(file)  # about the machine that wrote it
  declared: dict[str, _Storage] = {}  # also an optimizer's, which are skipped

  def declare(identity: Any) -> _Storage:
    storage = _storage(identity)
    if declared.setdefault(storage.key, storage) != storage:
      raise RefusedError(f'it has two storages {shown(storage.key)}')
    return storage

  tensors = _state_dict(_read_pickle(file, declare))
  keys = _read_pickle(file)
  if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
    raise RefusedError('its list of storages is broken')
  contents = {key: _next_storage(file, declared.get(key)) for key in keys}
  missing = sorted(declared.keys() - contents.keys())
  if missing:
    raise RefusedError(f'it lacks the storage {shown(missing[0])}')
  return {
    name: _materialize(tensor, contents[tensor.storage.key])
    for name, tensor in tensors.items()
  }


def _next_storage(file: io.BytesIO, declared: _Storage | None) -> bytes:
  size = file.read(8)
  if declared is None or len(size) < 8:
    raise RefusedError('its storages are not those of its tensors')
  if struct.unpack('<q', size)[0] != declared.size:
    raise RefusedError(f'storage {shown(declared.key)} lies about its size')
  return file.read(declared.size * declared.dtype.itemsize)
