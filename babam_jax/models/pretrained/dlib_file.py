"""Reads the weights in dlib's file of its face network as plain arrays.

The format is dlib's own serialization. Numbers say how many numbers follow;
none is believed before the file is known to have as many bytes.
"""

import math
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from babam_jax.models.pretrained import weight_file
from babam_jax.models.pretrained.node import Node
from babam_jax.models.pretrained.pickle_reader import RefusedError, shown

_LARGEST = 1 << 26  # bytes; the network has 22 million
_LONGEST = 64  # letters of a name
_INPUT_LAYER = 3  # the version of the layer that takes the pictures
_MOST_LAYERS = 1000
_LOSS, _INPUT = 'loss_metric_2', 'input_rgb_image_sized'
_TENSOR, _ALIAS = 2, 1  # versions
# Exponents that dlib writes for what is no number.
_INFINITE = range(32000, 32003)
_STATE = 3  # tensors in which each layer keeps what it computed, empty here


def read(path: pathlib.Path, remedy: str) -> list[Node]:
  """Reads the layers that have weights, from the input to the output.

  Each affine layer is folded into the convolution before it.

  Args:
    path: such as `dlib_face_recognition_resnet_model_v1.dat`.
    remedy: what to do, for the error message.

  Raises:
    UserError: the file is not there, or is not such a file.
  """
  with weight_file.guarded(path, _LARGEST, "a file in dlib's format", remedy):
    return list(_folded(_layers(_Bytes(path.read_bytes()))))


class _Bytes:
  """A file, from front to back."""

  def __init__(self, content: bytes):
    self._content, self._place = content, 0

  def take(self, count: int) -> bytes:
    """The next bytes.

    Raises:
      RefusedError: there are fewer.
    """
    end = self._place + count
    if end > len(self._content):
      raise RefusedError('it ends too early')
    taken, self._place = self._content[self._place : end], end
    return taken

  @property
  def is_done(self) -> bool:
    """Whether nothing is left."""
    return self._place == len(self._content)

  def integer(self) -> int:
    """A control byte (the number of bytes, the sign), then the bytes."""
    control = self.take(1)[0]
    count = control & 15
    if not 1 <= count <= 8 or control & 112:
      raise RefusedError('a number in it is broken')
    value = int.from_bytes(self.take(count), 'little')
    return -value if control & 128 else value

  def integers(self, count: int) -> list[int]:
    """Several of them."""
    return [self.integer() for _ in range(count)]

  def real(self) -> float:
    """A mantissa and an exponent of 2."""
    mantissa, exponent = self.integer(), self.integer()
    if exponent in _INFINITE:
      return math.nan
    if abs(exponent) > 2000:
      raise RefusedError('a number in it is broken')
    try:
      return math.ldexp(mantissa, exponent)
    except OverflowError:
      return math.nan

  def name(self) -> str:
    """A text."""
    count = self.integer()
    if not 0 <= count <= _LONGEST:
      raise RefusedError('a name in it is broken')
    return self.take(count).decode('latin-1')

  def flag(self) -> bool:
    """One letter, 0 or 1."""
    letter = self.take(1)
    if letter not in (b'0', b'1'):
      raise RefusedError('a switch in it is broken')
    return letter == b'1'

  def shape(self) -> list[int]:
    """Four lengths, none negative, and together not beyond the file: beside a
    length of 0, too, or NumPy would count more than it can."""
    found = self.integers(4)
    size = math.prod(max(1, length) for length in found)
    if min(found) < 0 or size > len(self._content):
      raise RefusedError('a shape in it is broken')
    return found

  def tensor(self) -> np.ndarray:
    """An array of four axes."""
    self.expect(_TENSOR, self.integer(), 'the version of a tensor')
    shape = self.shape()
    count = math.prod(shape)
    values = np.frombuffer(self.take(4 * count), '<f4')
    return values.reshape(shape)

  def alias(self) -> list[int]:
    """The shape of a part of a tensor."""
    self.expect(_ALIAS, self.integer(), 'the version of an alias')
    return self.shape()

  def expect(self, expected: object, found: object, what: str) -> None:
    """Checks a value that is the same in all such files."""
    if found != expected:
      raise RefusedError(
        f'{what} is {shown(str(found))}, expected {shown(str(expected))}'
      )


def _layers(file: _Bytes) -> Iterator[Node]:
  """The layers that have weights, as they are in the file."""
  file.expect(1, file.integer(), 'its version')
  file.expect(_LOSS, file.name(), 'its loss')
  for _ in range(2):  # margin and threshold of the loss
    file.real()
  versions = []
  while not versions or versions[-1] != _INPUT_LAYER:
    versions.append(file.integer())
    if versions[-1] not in (1, 2, _INPUT_LAYER) or len(versions) > _MOST_LAYERS:
      raise RefusedError('its list of layers is broken')
  file.expect(_INPUT, file.name(), 'its input')
  for _ in range(3):  # the mean color
    file.real()
  file.integers(2)  # the size
  count = len(versions) - versions.count(1)
  for number in range(count):
    name = file.name()
    kind, _, _ = name.partition('_')
    if kind not in _DETAILS:
      raise RefusedError(f'it has a layer {shown(name)}, which is unknown')
    arrays = _DETAILS[kind](file, name)
    for _ in range(3):
      file.flag()
    for _ in range(_STATE):
      file.tensor()
    if number == 0:
      file.integer()
    if arrays:
      yield Node(f'layer {number} {name}', kind, arrays)
  if not file.is_done:
    raise RefusedError('it goes on after its last layer')


_Arrays = tuple[np.ndarray, ...]


def _parts(values: np.ndarray, *shapes: list[int]) -> list[np.ndarray]:
  """A tensor, divided into parts of these shapes."""
  sizes = [math.prod(shape) for shape in shapes]
  if sum(sizes) != values.size:
    raise RefusedError('a layer in it has not as many values as it says')
  ends = np.cumsum(sizes)[:-1]
  divided = np.split(values.ravel(), ends)
  return [x.reshape(s) for x, s in zip(divided, shapes, strict=True)]


def _convolution(file: _Bytes, name: str) -> _Arrays:
  values = file.tensor()
  file.integers(7)  # filters, kernel, strides, padding
  filters, biases = file.alias(), file.alias()
  _skip_rates(file)
  for version in ('con_5', 'con_6'):
    if name >= version:
      file.flag()
  kernel, bias = _parts(values, filters, biases)
  return kernel, bias.ravel()


def _affine(file: _Bytes, name: str) -> _Arrays:
  values = file.tensor()
  shapes = file.alias(), file.alias()
  file.integer()  # mode: convolutions
  if name >= 'affine_2':
    file.flag()
  gamma, beta = _parts(values, *shapes)
  return gamma.ravel(), beta.ravel()


def _dense(file: _Bytes, name: str) -> _Arrays:
  outputs, inputs = file.integers(2)
  values = file.tensor()
  weights, _ = file.alias(), file.alias()
  file.expect(1, file.integer(), 'its dense layer')  # without biases
  _skip_rates(file)
  if name >= 'fc_3':
    file.flag()
  (kernel,) = _parts(values, weights)
  if kernel.shape != (inputs, outputs, 1, 1):
    raise RefusedError('its dense layer has another shape than it says')
  return (kernel.reshape(inputs, outputs).T,)


def _pool(file: _Bytes, name: str) -> _Arrays:
  del name
  file.integers(6)  # window, strides, padding
  return ()


def _relu(file: _Bytes, name: str) -> _Arrays:
  if name >= 'relu_2':
    file.flag()
  return ()


def _nothing(file: _Bytes, name: str) -> _Arrays:
  del file, name
  return ()


def _skip_rates(file: _Bytes) -> None:
  """Multipliers of learning rate and decay."""
  for _ in range(4):
    file.real()


_DETAILS: dict[str, Callable[[_Bytes, str], _Arrays]] = {
  'con': _convolution,
  'affine': _affine,
  'relu': _relu,
  'add': _nothing,
  'max': _pool,
  'avg': _pool,
  'fc': _dense,
}


def _folded(layers: Iterator[Node]) -> Iterator[Node]:
  """Convolutions with the affine layers after them, in ONNX's terms."""
  before: Node | None = None
  for node in layers:
    if node.kind == 'affine' and before is not None:
      (kernel, bias), (gamma, beta) = before.arrays, node.arrays
      if {len(bias), len(gamma), len(beta)} != {len(kernel)}:
        raise RefusedError(f'{node.name} does not fit what precedes it')
      with np.errstate(all='ignore'):  # what is not finite is refused later
        folded = kernel * gamma[:, None, None, None], bias * gamma + beta
      yield Node(before.name, 'Conv', folded)
      before = None
      continue
    if before is not None or node.kind == 'affine':
      raise RefusedError(f'{node.name} stands where none is expected')
    if node.kind == 'con':
      before = node
    else:
      yield Node(node.name, 'Conv', node.arrays)
  if before is not None:
    raise RefusedError(f'nothing follows {before.name}')
