"""Fields of a config that are set by name."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from babam_jax import errors
from babam_jax.config import renamed, schema


def vary(
  config: ConfigDict, fields: Mapping[str, Any], where: str
) -> ConfigDict:
  """Like `set_fields`, and sets options that are then unused to their defaults.

  Raises:
    UserError: also if one of `fields` is such an option.
  """
  return schema.without_unused(set_fields(config, fields, where), fields)


def set_fields(
  config: ConfigDict, fields: Mapping[str, Any], where: str
) -> ConfigDict:
  """A copy of a config in which some fields are set.

  Args:
    config: the config to start from.
    fields: `{'recognizer.frozen': 'none', 'recognizer.epochs': 24}`. None can
      only replace None.
    where: where `fields` come from, for error messages.

  Raises:
    UserError: no such field, or a value of another type.
  """
  changed = config.copy_and_resolve_references().lock()
  for path, value in fields.items():
    try:
      if value is None and value_at(changed, path) is not None:
        raise ValueError('no value')
      changed.update_from_flattened_dict({path: value})
    except (KeyError, AttributeError, TypeError, ValueError) as error:
      new = renamed.new_name(path)
      found = f'it is now {new}' if new else _first_line(error)
      raise errors.UserError(
        f'{where}: cannot set {f"{path}={value}"!r} ({found}); expected a '
        'field of babam_jax/config/schema.py and a value of its type.'
      ) from None
  return changed


def value_at(config: ConfigDict, path: str) -> Any:
  """The value of a field, by its path."""
  value: Any = config
  for name in path.split('.'):
    value = value[name]
  return value


def _first_line(error: BaseException) -> str:
  return ' '.join(str(error).split()).strip('\'"')[:120]
