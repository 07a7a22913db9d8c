"""Reads the weights in an ONNX file as plain arrays, and how its layers are
connected; no other file is opened, and nothing of the graph is ever run."""

import pathlib
from typing import Any

import numpy as np

from babam_jax import errors
from babam_jax.models.architecture import Connection
from babam_jax.models.pretrained import weight_file
from babam_jax.models.pretrained.node import Node
from babam_jax.models.pretrained.pickle_reader import RefusedError, shown

# Bytes; MobileFaceNet has 5 million. In memory, the smallest parts of a file
# take eighty times what they take there.
_LARGEST = 1 << 24
_MOST = 4096  # nodes, or arrays; MobileFaceNet has 96 and 134
_MOST_INPUTS = 16  # of a node
_KINDS = ('FLOAT', 'DOUBLE', 'FLOAT16', 'BFLOAT16', 'INT32', 'INT64')
_SAME_VALUES = ('Dropout', 'Flatten', 'Identity', 'Reshape', 'Squeeze')
EXTRA = 'onnx'


def read(path: pathlib.Path, remedy: str) -> list[Node]:
  """Reads the layers, in the order of the graph: all nodes but for those that
  add, or keep all values.

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
  inputs = max(len(node.input) for node in graph.node)
  parts = max(len(graph.node), len(graph.initializer))
  if parts > _MOST or inputs > _MOST_INPUTS:
    raise RefusedError('it has more parts than any network that we know')
  return graph


def _nodes(graph: Any) -> list[Node]:
  arrays = _arrays(graph)
  found: list[Node] = []
  # The layers whose outputs are added in each value of the graph.
  sums: dict[str | bytes, tuple[int, ...]] = {}
  for value in graph.input:
    if value.name not in arrays:
      sums[value.name] = ()
  for node in graph.node:
    if node.op_type == 'Constant':
      continue
    weights = tuple(arrays[name] for name in node.input if name in arrays)
    taken = [sums[name] for name in node.input if name in sums]
    added = tuple(sorted(sum(taken, ())))
    if node.op_type not in _SAME_VALUES and (node.op_type != 'Add' or weights):
      found.append(_layer(node, weights, added))
      added = (len(found) - 1,)
    for name in node.output:
      if name in sums or name in arrays:
        raise RefusedError(f'two of its nodes give {_shown(name)}')
      sums[name] = added
  if [sums.get(x.name) for x in graph.output] != [(len(found) - 1,)]:
    raise RefusedError('its output is not that of its last layer alone')
  return found


def _layer(
  node: Any, weights: tuple[np.ndarray, ...], takes: tuple[int, ...]
) -> Node:
  """A node, an `onnx.NodeProto`, as a layer."""
  has = {_text(attribute.name): attribute for attribute in node.attribute}
  if node.op_type == 'Gemm' and weights:
    return Node(
      _text(node.name), 'Conv', _dense(has, weights), Connection(takes)
    )
  found = Connection(
    takes,
    _alike(has, 'strides', 1),
    _alike(has, 'pads', 0),
    has['group'].i if 'group' in has else 1,
  )
  padded = 'auto_pad' in has and has['auto_pad'].s not in (b'', b'NOTSET')
  if padded or _alike(has, 'dilations', 1) != 1:
    raise RefusedError(f'{_shown(node.name)} is dilated, or pads by itself')
  return Node(_text(node.name), _text(node.op_type), weights, found)


def _dense(
  has: dict[str, Any], weights: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
  """The weights of a dense layer as those of a convolution of one pixel."""
  scaled = any(has[x].f != 1 for x in ('alpha', 'beta') if x in has)
  if scaled or ('transA' in has and has['transA'].i) or weights[0].ndim != 2:
    raise RefusedError('its dense layer does more than a dense layer')
  turned = 'transB' in has and has['transB'].i
  return (weights[0] if turned else weights[0].T, *weights[1:])


def _alike(has: dict[str, Any], name: str, default: int) -> int:
  """The one value of an attribute that has one for each border or direction."""
  values = set(has[name].ints) if name in has else {default}
  if len(values) != 1:
    raise RefusedError(f'its {name} are {shown(str(sorted(values)))}')
  return values.pop()


def _arrays(graph: Any) -> dict[str | bytes, np.ndarray]:
  """All numbers in the file, by name; bytes where it is no text."""
  tensors = [(tensor.name, tensor) for tensor in graph.initializer]
  for node in graph.node:
    if node.op_type == 'Constant':
      values = [x.t for x in node.attribute if x.name == 'value']
      tensors += zip(node.output, values, strict=False)
  found: dict[str | bytes, np.ndarray] = {}
  for name, tensor in tensors:
    if name in found:
      raise RefusedError(f'it has {_shown(name)} twice')
    found[name] = _array(name, tensor)
  return found


def _array(name: str | bytes, tensor: Any) -> np.ndarray:
  """The numbers of an `onnx.TensorProto`."""
  import onnx
  from onnx import numpy_helper

  name = _shown(name)
  if tensor.external_data or tensor.data_location == tensor.EXTERNAL:
    raise RefusedError(f'the numbers of {name} are in another file')
  if tensor.data_type not in map(onnx.TensorProto.DataType.Value, _KINDS):
    raise RefusedError(f'{name} does not hold plain numbers')
  if any(length < 0 for length in tensor.dims):
    raise RefusedError(f'{name} has a negative length')
  try:
    return numpy_helper.to_array(tensor)
  except (ValueError, TypeError) as error:
    reason = shown(str(error))
    raise RefusedError(f'{name} is broken ({reason})') from None


def _text(name: str | bytes) -> str:
  return name if isinstance(name, str) else repr(name)


def _shown(name: str | bytes) -> str:
  return shown(_text(name))
