"""Settings: fields of dataclasses that know their meaning and their range.

Each part of the package declares its settings beside the code that uses them.
The config (`config.schema`), its checks, and the reference of all fields in
the documentation are made from them.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from babam_jax import errors, seeds

_KEY = 'setting'
WHOLE_LIMIT = seeds.LIMIT  # the size of whole numbers


class Setting(NamedTuple):
  """What is known about a field besides its type and its default.

  Attributes:
    text: the meaning of the field, for the reference.
    unit: the unit of a number: 'gray levels', 'pixels'; '' if it has none.
    choices: the allowed values, or elements of a tuple; None: any.
    above: a number is larger than this.
    at_least: a number, or the length of a tuple, is not less than this.
    at_most: a number is not more than this.
    below: a number is less than this.
    each: what the elements of a tuple are; None: anything.
  """

  text: str
  unit: str = ''
  choices: tuple[str, ...] | None = None
  above: float | None = None
  at_least: float | None = None
  at_most: float | None = None
  below: float | None = None
  each: tuple[type, ...] | None = None

  def expected(self) -> str:
    """The range in words: 'above 0, at most 1'."""
    if self.choices is not None:
      return f'one of {", ".join(self.choices)}'
    bounds = (
      ('above', self.above),
      ('at least', self.at_least),
      ('at most', self.at_most),
      ('below', self.below),
    )
    found = [f'{name} {bound:g}' for name, bound in bounds if bound is not None]
    return f'{", ".join(found) or "a finite number"} {self.unit}'.rstrip()

  def allows(self, value: Any) -> bool:
    """Whether a value is within the range."""
    if isinstance(value, tuple):
      long_enough = self.at_least is None or len(value) >= self.at_least
      known = self.choices is None or set(value) <= set(self.choices)
      return long_enough and known and all(map(_fits, value))
    if self.choices is not None:
      return value in self.choices
    if isinstance(value, bool) or not isinstance(value, (int, float)):
      return True
    return (
      _fits(value)
      and (self.above is None or value > self.above)
      and (self.at_least is None or value >= self.at_least)
      and (self.at_most is None or value <= self.at_most)
      and (self.below is None or value < self.below)
    )


def _fits(value: Any) -> bool:
  """Whether a value, if it is a number, is finite and fits 32 bits."""
  if isinstance(value, int):
    return abs(value) < WHOLE_LIMIT
  return not isinstance(value, float) or math.isfinite(value)


def setting(default: Any, text: str, **known: Any) -> Any:
  """A field of a dataclass, with its `Setting`.

  Args:
    default: the default; for nested settings, an instance of their class.
    text: the meaning of the field, in a sentence or two.
    **known: the other attributes of `Setting`.
  """
  metadata = {_KEY: Setting(text, **known)}
  if dataclasses.is_dataclass(default):  # frozen: safe to share
    return dataclasses.field(default_factory=lambda: default, metadata=metadata)
  return dataclasses.field(default=default, metadata=metadata)


def fields(node: Any) -> Iterator[tuple[dataclasses.Field, Setting]]:
  """The settings of a dataclass or of an instance, in order."""
  for field in dataclasses.fields(node):
    if _KEY in field.metadata:
      yield field, field.metadata[_KEY]


def defaults(kind: type) -> dict[str, Any]:
  """The default of each setting; nested settings as dicts."""
  return as_dict(kind())


def as_dict(node: Any) -> dict[str, Any]:
  """The values of all settings; nested settings as dicts."""
  found = {}
  for field, _ in fields(node):
    value = getattr(node, field.name)
    is_node = dataclasses.is_dataclass(value)
    found[field.name] = as_dict(value) if is_node else value
  return found


def refuse(path: str, found: Any, expected: str, remedy: str = '') -> None:
  """Refuses the value of a config field.

  Args:
    path: the path of the field, below `config`.
    found: its value.
    expected: the expected values, in words.
    remedy: what to do; by default, to set the field.

  Raises:
    UserError: always.
  """
  remedy = remedy or f'Set it with --config.{path}=...'
  raise errors.UserError(
    f'config.{path}: found {found!r}, expected {expected}. {remedy}'
  )


def _all_fit(value: Any) -> bool:
  return all(map(_fits, value if isinstance(value, tuple) else (value,)))


def check(node: Any, path: str) -> None:
  """Checks all settings of an instance, nested ones included.

  Args:
    node: an instance of a dataclass with settings.
    path: the path of the instance, below `config`; '' for the whole config.

  Raises:
    UserError: a value is out of its range; the message names the field.
  """
  for field, known in fields(node):
    value = getattr(node, field.name)
    here = f'{path}.{field.name}' if path else field.name
    if dataclasses.is_dataclass(value):
      check(value, here)
    elif not _is_like(value, field.default):
      refuse(here, value, _in_words(type(field.default)))
    elif not known.allows(value):
      limit = '' if _all_fit(value) else f', below {WHOLE_LIMIT}'
      refuse(here, value, f'{known.expected()}{limit}')


_WORDS = {
  float: 'a number',
  int: 'a whole number',
  bool: 'True or False',
  str: 'a text',
  tuple: 'a list',
  Mapping: "fields with their values, {'name': 1}",
}


def _in_words(kind: type) -> str:
  return _WORDS.get(kind, kind.__name__)


def _is_like(value: Any, default: Any) -> bool:
  """Whether a value has the type of its default; of NumPy's numbers, too."""
  if isinstance(default, bool) or isinstance(value, bool):
    return type(value) is type(default)
  if isinstance(default, float):
    return isinstance(value, int | float | np.number)
  if isinstance(default, int):
    return isinstance(value, int | np.integer)
  if isinstance(default, tuple):
    return isinstance(value, tuple | list)
  return isinstance(value, type(default))


def build(kind: type, values: Mapping[str, Any], path: str = '') -> Any:
  """An instance from values; missing settings have their defaults.

  Where the default is a float or a tuple, a whole number or a list is converted
  to it.

  Args:
    kind: a dataclass with settings.
    values: by name; those of nodes are mappings.
    path: of the instance, with a dot at the end, for error messages.

  Raises:
    KeyError: there is no such setting.
    TypeError: a value is of another type than the default.
  """
  if not isinstance(values, Mapping):
    raise TypeError(f'{path.rstrip(".")}: found {values!r}, expected fields')
  known = {field.name: found for field, found in fields(kind)}
  unknown = [name for name in values if name not in known]
  if unknown:
    raise KeyError(f'{path}{unknown[0]}')
  default = kind()
  return kind(
    **{
      name: _as(getattr(default, name), value, f'{path}{name}', known[name])
      for name, value in values.items()
    }
  )


def _as(default: Any, value: Any, path: str, known: Setting) -> Any:
  """A value, converted to the type of its default."""
  if dataclasses.is_dataclass(default):
    return build(type(default), value, f'{path}.')
  if isinstance(default, tuple) and isinstance(value, (tuple, list)):
    return _as_tuple(value, path, known)
  if isinstance(default, float) and type(value) is int and _fits(value):
    return float(value)
  if type(value) is not type(default):
    raise TypeError(
      f'{path}: found {value!r}, expected {type(default).__name__}'
    )
  return value


def _as_tuple(value: Sequence[Any], path: str, known: Setting) -> tuple:
  """A tuple whose elements are of the kind that the setting holds."""
  for element in value:
    if known.each is not None and not isinstance(element, known.each):
      names = ' or '.join(map(_in_words, known.each))
      raise TypeError(f'{path}: found {element!r} in it, expected {names}')
  return tuple(value)


def replace(node: Any, sets: Mapping[str, Any]) -> Any:
  """A copy with some settings changed.

  Args:
    node: an instance of a dataclass with settings.
    sets: the new values by name; `{'adaptive.evade': 0.3}` sets a nested one.

  Raises:
    KeyError: there is no such setting.
    TypeError: a value is of another type than the default.
  """
  values = as_dict(node)
  for path, value in sets.items():
    *nodes, name = path.split('.')
    place = values
    for step in nodes:
      place = place[step]
    if name not in place:
      raise KeyError(path)
    place[name] = value
  return build(type(node), values)
