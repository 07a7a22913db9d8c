"""Reads pickles of tensors without running anything that they name.

Python's own unpickler calls whatever a file names. This one cannot: it walks
through the opcodes (as the standard library's `pickletools` parses them) and
knows only plain values, containers, and the few constructors that its caller
gives it by name. Memory stays within a small multiple of the file.
"""

import io
import math
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class RefusedError(ValueError):
  """The file asks for something other than tensors."""


class Global(NamedTuple):
  """The name of an object in a pickle; the object itself is never looked up."""

  module: str
  name: str

  def __str__(self) -> str:
    return f'{self.module}.{self.name}'


def shown(value: Any) -> str:
  """A value from a file as text, short and without control characters.

  A container is never rendered: a few bytes can describe one of any size.
  """
  if isinstance(value, str):
    return ascii(value[:60])
  if type(value) is int and abs(value) < 2**63:
    return str(value)
  return f'a {type(value).__name__}'


Constructor = Callable[..., Any]
_MARK = object()
_MOST_OPCODES = 1_000_000  # a large network's state_dict has some 50,000
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_VALUES = frozenset(
  'INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE '
  'BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 '
  'STRING BINSTRING SHORT_BINSTRING'.split()
)
_EMPTY = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


class _Machine:
  """The stack and the memo of one pickle."""

  def __init__(
    self,
    constructors: Mapping[Global, Constructor],
    names: frozenset[Global],
    persistent: Callable[[Any], Any] | None,
  ):
    self.stack: list[Any] = []
    self._memo: dict[int, Any] = {}
    self._constructors = constructors
    self._names = names | constructors.keys()
    self._persistent = persistent

  def run(self, opcode: str, argument: Any) -> None:
    """Executes one opcode."""
    if opcode in _VALUES:
      self.stack.append(argument)
    elif opcode in _CONSTANTS:
      self.stack.append(_CONSTANTS[opcode])
    elif opcode in _EMPTY:
      self.stack.append(_EMPTY[opcode]())
    elif opcode in _TUPLES:
      self.stack.append(tuple(self._take(_TUPLES[opcode])))
    elif opcode in _HANDLERS:
      _HANDLERS[opcode](self, argument)
    elif opcode not in ('PROTO', 'FRAME', 'STOP'):
      raise RefusedError(f'it uses the pickle opcode {opcode}')

  def _take(self, count: int) -> list[Any]:
    if count > len(self.stack) or any(
      value is _MARK for value in self.stack[len(self.stack) - count :]
    ):
      raise RefusedError('its pickle is broken')
    taken = self.stack[len(self.stack) - count :]
    del self.stack[len(self.stack) - count :]
    return taken

  def _take_to_mark(self) -> list[Any]:
    for depth in range(len(self.stack) - 1, -1, -1):
      if self.stack[depth] is _MARK:
        taken = self.stack[depth + 1 :]
        del self.stack[depth:]
        return taken
    raise RefusedError('its pickle is broken')

  def _top(self, kind: type) -> Any:
    if not self.stack or not isinstance(self.stack[-1], kind):
      raise RefusedError('its pickle is broken')
    return self.stack[-1]

  def mark(self, argument: Any) -> None:
    self.stack.append(_MARK)

  def remember(self, argument: int | None) -> None:
    value = self._top(object)
    if value is _MARK:
      raise RefusedError('its pickle is broken')
    self._memo[len(self._memo) if argument is None else argument] = value

  def recall(self, argument: int) -> None:
    if argument not in self._memo:
      raise RefusedError('its pickle is broken')
    self.stack.append(self._memo[argument])

  def tuple_to_mark(self, argument: Any) -> None:
    self.stack.append(tuple(self._take_to_mark()))

  def list_to_mark(self, argument: Any) -> None:
    self.stack.append(self._take_to_mark())

  def dict_to_mark(self, argument: Any) -> None:
    items = self._take_to_mark()
    self.stack.append({})
    self._set(items)

  def append(self, argument: Any) -> None:
    (item,) = self._take(1)
    self._top(list).append(item)

  def extend(self, argument: Any) -> None:
    items = self._take_to_mark()
    self._top(list).extend(items)

  def set_item(self, argument: Any) -> None:
    self._set(self._take(2))

  def set_items(self, argument: Any) -> None:
    self._set(self._take_to_mark())

  def _set(self, items: list[Any]) -> None:
    target = self._top(dict)
    if len(items) % 2:
      raise RefusedError('its pickle is broken')
    for key, value in zip(items[::2], items[1::2], strict=True):
      # Larger integers can be chosen with equal hashes, which stalls a dict.
      if not isinstance(key, str) and not (type(key) is int and key < 2**31):
        raise RefusedError(f'it has a dict with the key {shown(key)}')
      target[key] = value

  def name(self, argument: str) -> None:
    self._push_name(*argument.split(' ', 1))

  def name_from_stack(self, argument: Any) -> None:
    module, name = self._take(2)
    if not isinstance(module, str) or not isinstance(name, str):
      raise RefusedError('its pickle is broken')
    self._push_name(module, name)

  def _push_name(self, module: str, name: str) -> None:
    found = Global(module, name)
    if found not in self._names:
      raise RefusedError(f'it asks for {shown(str(found))[1:-1]}')
    self.stack.append(found)

  def construct(self, argument: Any) -> None:
    name, arguments = self._take(2)
    if (
      not isinstance(name, Global)
      or name not in self._constructors
      or not isinstance(arguments, tuple)
    ):
      raise RefusedError('it calls what cannot be called')
    try:
      self.stack.append(self._constructors[name](*arguments))
    except TypeError:
      raise RefusedError(f'it misuses {name}') from None

  def build(self, argument: Any) -> None:
    (state,) = self._take(1)
    target = self._top(object)
    if isinstance(target, PickledArray | PickledDtype):
      target.set_state(state)
    elif not isinstance(target, dict):  # the attributes of a dict are ignored
      raise RefusedError(f'it fills in a {type(target).__name__}')

  def persistent(self, argument: Any) -> None:
    (identity,) = self._take(1)
    if self._persistent is None:
      raise RefusedError('it asks for an outside object')
    self.stack.append(self._persistent(identity))


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
  'MARK': _Machine.mark,
  'PUT': _Machine.remember,
  'BINPUT': _Machine.remember,
  'LONG_BINPUT': _Machine.remember,
  'MEMOIZE': _Machine.remember,
  'GET': _Machine.recall,
  'BINGET': _Machine.recall,
  'LONG_BINGET': _Machine.recall,
  'TUPLE': _Machine.tuple_to_mark,
  'LIST': _Machine.list_to_mark,
  'DICT': _Machine.dict_to_mark,
  'APPEND': _Machine.append,
  'APPENDS': _Machine.extend,
  'SETITEM': _Machine.set_item,
  'SETITEMS': _Machine.set_items,
  'GLOBAL': _Machine.name,
  'STACK_GLOBAL': _Machine.name_from_stack,
  'REDUCE': _Machine.construct,
  'BUILD': _Machine.build,
  'BINPERSID': _Machine.persistent,
}


def read(
  file: io.BufferedIOBase,
  constructors: Mapping[Global, Constructor],
  names: frozenset[Global] = frozenset(),
  persistent: Callable[[Any], Any] | None = None,
) -> Any:
  """Reads one pickle, and leaves the file's position after it.

  Args:
    file: bytes in memory.
    constructors: what the pickle may build, by name.
    names: other names that it may contain.
    persistent: builds the value for a persistent id; None: ids are refused.

  Raises:
    RefusedError: the pickle asks for something else, or is broken.
  """
  machine = _Machine(constructors, names, persistent)
  try:
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
      if number > _MOST_OPCODES:
        raise RefusedError(f'its pickle has over {_MOST_OPCODES:,} opcodes')
      machine.run(opcode.name, argument)
  except RefusedError:
    raise
  except (ValueError, IndexError, OverflowError, EOFError) as error:
    reason = shown(str(error))
    raise RefusedError(f'its pickle is broken: {reason}') from None
  if len(machine.stack) != 1:
    raise RefusedError('its pickle is broken')
  return machine.stack[0]


class PickledDtype:
  """A NumPy dtype in a pickle."""

  def __init__(self, code: Any, align: Any, copy: Any):
    if code not in ('f2', 'f4', 'f8', 'i4', 'i8', 'u1'):
      raise RefusedError(f'it has an array of dtype {shown(code)}')
    self.dtype = np.dtype(code)

  def set_state(self, state: Any) -> None:
    """Checks the byte order; the rest is for structured dtypes."""
    if not isinstance(state, tuple) or len(state) < 2:
      raise RefusedError('it has a broken dtype')
    if state[1] not in ('<', '|'):
      raise RefusedError('it has an array that is not little-endian')


class PickledArray:
  """A NumPy array in a pickle; `value` is set once its state has been read."""

  def __init__(self, kind: Any, shape: Any, code: Any):
    self.value: np.ndarray | None = None

  def set_state(self, state: Any) -> None:
    """Takes `(version, shape, dtype, is_fortran, content)`."""
    if not isinstance(state, tuple) or len(state) != 5:
      raise RefusedError('it has a broken array')
    _, shape, dtype, is_fortran, content = state
    if not isinstance(dtype, PickledDtype) or not isinstance(content, bytes):
      raise RefusedError('it has an array of something else than numbers')
    size = math.prod(checked_shape(shape)) * dtype.dtype.itemsize
    if size != len(content):
      raise RefusedError(
        f'it declares an array of {size:,} bytes and has {len(content):,}'
      )
    flat = np.frombuffer(content, dtype.dtype)
    self.value = flat.reshape(shape, order='F' if is_fortran is True else 'C')


def checked_shape(shape: Any) -> tuple[int, ...]:
  """`shape`, if it is a valid one.

  Raises:
    RefusedError: it is not a tuple of up to 8 whole numbers from 0, or an array
      of that shape would be too large to address.
  """
  if (
    not isinstance(shape, tuple)
    or len(shape) > 8
    or not all(type(n) is int and 0 <= n < 2**40 for n in shape)
    or math.prod(max(n, 1) for n in shape) >= 2**40
  ):
    of = ', '.join(map(shown, shape[:8])) if isinstance(shape, tuple) else '?'
    raise RefusedError(f'it declares a shape ({of})')
  return shape


_NUMPY = {
  Global(module, '_reconstruct'): PickledArray
  for module in ('numpy.core.multiarray', 'numpy._core.multiarray')
} | {Global('numpy', 'dtype'): PickledDtype}


def read_arrays(file: io.BufferedIOBase) -> dict[str, Any]:
  """Reads nested dicts of NumPy arrays.

  Raises:
    RefusedError: the pickle holds anything else.
  """
  tree = read(file, _NUMPY, frozenset({Global('numpy', 'ndarray')}))
  if not isinstance(tree, dict):
    raise RefusedError(f'it holds a {type(tree).__name__}')
  return _arrays_of(tree, set())


def _arrays_of(tree: dict[Any, Any], seen: set[int]) -> dict[str, Any]:
  # A dict that occurs twice is refused: copies can grow exponentially.
  seen.add(id(tree))
  found = {}
  for name, value in tree.items():
    if isinstance(value, dict) and id(value) not in seen and len(seen) < 1000:
      found[str(name)] = _arrays_of(value, seen)
    elif isinstance(value, PickledArray) and value.value is not None:
      found[str(name)] = value.value
    else:
      raise RefusedError(f'it holds a {type(value).__name__}')
  return found
