"""Reads the weights in an ONNX file as plain arrays; no other file is opened,
and nothing of the graph is ever run."""

import pathlib
from typing import Any

import numpy as np

from babam_jax import errors
from babam_jax.models.pretrained import weight_file
from babam_jax.models.pretrained.node import Node
from babam_jax.models.pretrained.pickle_reader import RefusedError, shown

_LARGEST = 1 << 26  # bytes; MobileFaceNet has 14 million
_KINDS = ('FLOAT', 'DOUBLE', 'FLOAT16', 'BFLOAT16', 'INT32', 'INT64')
EXTRA = 'onnx'


def read(path: pathlib.Path, remedy: str) -> list[Node]:
  """Reads the nodes that have weights, in the order of the graph.

  Args:
    path: an ONNX file with its weights inside.
    remedy: what to do, for the error message.

  Raises:
    UserError: the file is not there, is broken, holds its weights elsewhere or
      in a form that is not plain numbers; or the package `onnx` is missing.
  """
  with weight_file.guarded(path, _LARGEST, 'an ONNX file', remedy):
    return _nodes(_parsed(path))


def _parsed(path: pathlib.Path) -> Any:
  """The file's graph, an `onnx.GraphProto`; external data is not loaded."""
  try:
    import onnx
    from google.protobuf import message
  except ImportError:
    raise errors.missing_extra(f'weights file {path}', EXTRA) from None
  try:
    graph = onnx.ModelProto.FromString(path.read_bytes()).graph
  except message.DecodeError:
    raise RefusedError('it is not an ONNX file') from None
  if not graph.node:
    raise RefusedError('it is not an ONNX file with a graph')
  return graph


def _nodes(graph: Any) -> list[Node]:
  arrays = {tensor.name: _array(tensor) for tensor in graph.initializer}
  found = []
  for node in graph.node:
    weights = tuple(arrays[name] for name in node.input if name in arrays)
    if weights:
      found.append(Node(node.name, node.op_type, weights))
  return found


def _array(tensor: Any) -> np.ndarray:
  """The numbers of an `onnx.TensorProto`."""
  import onnx
  from onnx import numpy_helper

  name = shown(tensor.name)
  if tensor.external_data or tensor.data_location == tensor.EXTERNAL:
    raise RefusedError(f'the numbers of {name} are in another file')
  if tensor.data_type not in map(onnx.TensorProto.DataType.Value, _KINDS):
    raise RefusedError(f'{name} does not hold plain numbers')
  try:
    return numpy_helper.to_array(tensor)
  except (ValueError, TypeError) as error:
    reason = shown(str(error))
    raise RefusedError(f'{name} is broken ({reason})') from None
