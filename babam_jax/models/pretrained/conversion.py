"""Converts other names and array layouts to our variables: torchvision's, and
those of ONNX's and dlib's files."""

from typing import NamedTuple

import flax.traverse_util
import ml_dtypes
import numpy as np
from jaxtyping import PyTree

from babam_jax import errors
from babam_jax.models import networks
from babam_jax.models.architecture import Connection
from babam_jax.models.pretrained.node import Node

PARTS = ('full', 'trunk')
_PREFIXES = ('module.', '_orig_mod.', 'model.', 'net.')
_SUFFIXES = {
  'kernel': 'weight',
  'bias': 'bias',
  'scale': 'weight',
  'mean': 'running_mean',
  'var': 'running_var',
}
_DTYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
_COUNTER = 'num_batches_tracked'  # in PyTorch's BatchNorm; unused here
_SHOWN = 12  # names per kind of mistake


class _Leaf(NamedTuple):
  """One array: where it comes from and what it should look like."""

  source: str
  shape: tuple[int, ...]  # in PyTorch's layout
  flattens: tuple[int, int, int] | None


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  if len(shape) == 4:  # HWIO to OIHW
    height, width, inputs, outputs = shape
    return (outputs, inputs, height, width)
  return shape[::-1]


def _leaves(model: str, num_classes: int, part: str) -> dict[str, _Leaf]:
  """Our array names, `params/trunk/conv1/kernel`, and their sources."""
  architecture = networks.ARCHITECTURES[model]
  shapes = networks.variable_shapes(model, num_classes, networks.WIDTH)
  flat = flax.traverse_util.flatten_dict(shapes, sep='/')
  found = {}
  for name, leaf in flat.items():
    _, place, *rest, kind = name.split('/')
    if part == 'trunk' and place == 'head':
      continue
    layer = '/'.join((place, *rest))
    source = f'{architecture.torch_name(layer)}.{_SUFFIXES[kind]}'
    flattens = architecture.flattened if name.endswith('fc6/kernel') else None
    found[name] = _Leaf(source, _torch_shape(leaf.shape), flattens)
  return found


def _to_flax(array: np.ndarray, leaf: _Leaf) -> np.ndarray:
  """Converts PyTorch's layout to Flax's."""
  array = np.asarray(array, np.float32)
  if leaf.flattens:  # [out, (c, h, w)] to [(h, w, c), out]
    array = array.reshape(-1, *leaf.flattens).transpose(2, 3, 1, 0)
    return np.ascontiguousarray(array.reshape(-1, array.shape[-1]))
  axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim]
  return np.ascontiguousarray(array.transpose(axes))


def _count_classes(model: str, arrays: dict[str, np.ndarray]) -> int:
  """The width of the last layer; torchvision's 1000 if the layer is missing."""
  architecture = networks.ARCHITECTURES[model]
  last = architecture.torch_name(f'head/{architecture.last[0]}')
  bias = arrays.get(f'{last}.bias')
  return 1000 if bias is None or bias.ndim != 1 else max(1, len(bias))


def _list(kind: str, names: list[str]) -> str:
  first = ', '.join(name[:100] for name in names[:_SHOWN])
  rest = len(names) - _SHOWN
  more = f' and {rest} more' if rest > 0 else ''
  return f'{len(names)} {kind}: {ascii(first)[1:-1]}{more}' if names else ''


def from_torch(
  model: str, arrays: dict[str, np.ndarray], part: str, origin: str
) -> PyTree:
  """Our variables, `{'params': ..., 'batch_stats': ...}`.

  Args:
    model: one of `networks.ARCHITECTURES`.
    arrays: a state_dict with torchvision's names.
    part: 'full', or 'trunk' to ignore the dense layers.
    origin: what was read, for the error message.

  Raises:
    UserError: names are missing or superfluous, shapes are wrong, numbers are
      not finite; the message lists all that is wrong.
  """
  arrays = _without_prefix(arrays)
  leaves = _leaves(model, _count_classes(model, arrays), part)
  sources = {leaf.source for leaf in leaves.values()}
  unwanted = _dense_layers(model) if part == 'trunk' else frozenset()
  missing = sorted(sources - arrays.keys())
  extra = sorted(
    name
    for name in arrays.keys() - sources
    if not name.endswith(_COUNTER) and name.rpartition('.')[0] not in unwanted
  )
  misshaped = [
    f'{leaf.source} {list(arrays[leaf.source].shape)} instead of '
    f'{list(leaf.shape)}'
    for leaf in leaves.values()
    if leaf.source in arrays and arrays[leaf.source].shape != leaf.shape
  ]
  unusable = [
    name
    for name in sorted(sources & arrays.keys())
    if not is_usable(arrays[name], is_variance=name.endswith('running_var'))
  ]
  wrong = [
    _list('missing', missing),
    _list('superfluous', extra),
    _list('mis-shaped', misshaped),
    _list('not finite floating-point numbers, or negative variances', unusable),
  ]
  if any(wrong):
    raise errors.UserError(
      f'{origin}: these are not the weights of {model}: '
      f'{"; ".join(filter(None, wrong))}. Expected the state_dict of '
      f"torchvision's {model}. Name the model that they belong to with "
      '--model=..., or take the convolutions alone with --part=trunk.'
    )
  flat = {
    name: _to_flax(arrays[leaf.source], leaf) for name, leaf in leaves.items()
  }
  return flax.traverse_util.unflatten_dict(flat, sep='/')


def from_nodes(model: str, nodes: list[Node], origin: str) -> PyTree:
  """The variables of a trunk, `{'params': ..., 'batch_stats': ...}`.

  Args:
    model: a network with `file_layers`.
    nodes: the layers of a file.
    origin: what was read, for the error message.

  Raises:
    UserError: layers are missing, superfluous or connected otherwise, shapes
      are wrong, numbers are not finite; the message lists all that is wrong.
  """
  layers = _file_layers(model)
  pairs = list(zip(nodes, layers, strict=False))
  unlike = [(node, layer) for node, layer in pairs if not _fits(node, layer)]
  unusable = [
    f'{node.name} ({layer.name})'
    for node, layer in pairs
    if not all(map(is_usable, node.arrays))
  ]
  wrong = [
    _list('missing', [layer.name for layer in layers[len(nodes) :]]),
    _list('superfluous', [node.name for node in nodes[len(layers) :]]),
    _list('mis-shaped', [_compared(node, layer) for node, layer in unlike]),
    _list('not finite floating-point numbers', unusable),
  ]
  if not any(wrong):
    wrong = [_list('connected otherwise', _otherwise(pairs))]
  if any(wrong):
    raise errors.UserError(
      f'{origin}: these are not the weights of {model}: '
      f'{"; ".join(filter(None, wrong))}. Expected its graph, with BatchNorm '
      'folded into the convolutions. Give another file.'
    )
  flat = {
    f'params/trunk/{layer.name}/{part}': _to_flax(
      array.reshape(shape), _Leaf(node.name, shape, None)
    )
    for node, layer in pairs
    for array, (part, shape) in zip(
      node.arrays, layer.shapes.items(), strict=True
    )
  }
  tree = flax.traverse_util.unflatten_dict(flat, sep='/')
  return {'batch_stats': {}} | tree


class _FileLayer(NamedTuple):
  """One of our layers: its name, its operator, its arrays' shapes in files, and
  its place in the graph."""

  name: str
  kind: str
  shapes: dict[str, tuple[int, ...]]
  connection: Connection | None


def _file_layers(model: str) -> list[_FileLayer]:
  """A trunk's layers in the order of a file."""
  shapes = networks.variable_shapes(model, 1, 1)['params']['trunk']
  flat = flax.traverse_util.flatten_dict(shapes, sep='/')
  found = []
  for name, connection in networks.ARCHITECTURES[model].file_layers:
    parts = {
      part: _torch_shape(flat[f'{name}/{part}'].shape)
      for part in ('kernel', 'bias', 'slope')
      if f'{name}/{part}' in flat
    }
    found.append(
      _FileLayer(
        name, 'PRelu' if 'slope' in parts else 'Conv', parts, connection
      )
    )
  return found


def _otherwise(pairs: list[tuple[Node, _FileLayer]]) -> list[str]:
  """The nodes whose place in the graph is not that of their layers."""
  return [
    f'{node.name} ({layer.name})'
    for node, layer in pairs
    if node.connection != layer.connection
  ]


def _fits(node: Node, layer: _FileLayer) -> bool:
  """Whether a node has a layer's operator and, but for 1s at the end, its
  shapes: a dense layer may be a convolution of one pixel."""
  shapes = layer.shapes.values()
  return (node.kind, len(node.arrays)) == (layer.kind, len(shapes)) and all(
    array.shape == shape + (1,) * (array.ndim - len(shape))
    for array, shape in zip(node.arrays, shapes, strict=True)
  )


def _compared(node: Node, layer: _FileLayer) -> str:
  """What a node is, and which layer it was to be."""
  found, expected = (
    ' '.join(str(list(shape)) for shape in shapes)
    for shapes in ((x.shape for x in node.arrays), layer.shapes.values())
  )
  return (
    f'{node.name} {node.kind} {found} instead of '
    f'{layer.name} {layer.kind} {expected}'
  )


def _without_prefix(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Without what wrappers put before every name: data parallelism, compilation,
  or a model that is a part of another."""
  for prefix in _PREFIXES * 2:  # one may wrap the other
    if arrays and all(name.startswith(prefix) for name in arrays):
      arrays = {name.removeprefix(prefix): x for name, x in arrays.items()}
  return arrays


def _dense_layers(model: str) -> frozenset[str]:
  """What torchvision calls the layers of the head."""
  architecture = networks.ARCHITECTURES[model]
  shapes = networks.variable_shapes(model, 1, 1)['params']['head']
  return frozenset(architecture.torch_name(f'head/{ours}') for ours in shapes)


def is_usable(array: np.ndarray, is_variance: bool = False) -> bool:
  """Whether an array holds finite floating-point numbers."""
  if array.dtype not in _DTYPES:
    return False
  with np.errstate(over='ignore'):  # infinite, then, and told below
    array = array.astype(np.float32, copy=False)
  return bool(np.isfinite(array).all()) and not (
    is_variance and bool((array < 0).any())
  )
