"""Fields of a config that are set by name."""

import ast
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from babam_jax import errors


def override(config: ConfigDict, overrides: str, where: str) -> ConfigDict:
  """A copy of a config in which some fields are set.

  Args:
    config: what to start from.
    overrides: `fr.frozen=none fr.epochs=24`.
    where: the field that holds `overrides`, for error messages.

  Raises:
    UserError: no such field, or a value of another type.
  """
  assignments = (text.partition('=') for text in overrides.split())
  fields = {path: _literal(text) for path, _, text in assignments}
  return set_fields(config, fields, where)


def set_fields(
  config: ConfigDict, fields: Mapping[str, Any], where: str
) -> ConfigDict:
  """A copy of a config in which some fields are set.

  Args:
    config: what to start from.
    fields: `{'fr.frozen': 'none', 'fr.epochs': 24}`. None goes where None is.
    where: what gave `fields`, for error messages.

  Raises:
    UserError: no such field, or a value of another type.
  """
  changed = ConfigDict(config).copy_and_resolve_references().lock()
  for path, value in fields.items():
    try:
      if value is None and _value(changed, path) is not None:
        raise ValueError('no value')
      changed.update_from_flattened_dict({path: value})
    except (KeyError, AttributeError, TypeError, ValueError) as error:
      raise errors.UserError(
        f'{where}: cannot set {f"{path}={value}"!r} ({_first_line(error)}); '
        'expected a field of configs/common.py and a value of its type.'
      ) from None
  return changed


def _value(config: ConfigDict, path: str) -> Any:
  for name in path.split('.'):
    config = config[name]
  return config


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text  # a bare word


def _first_line(error: BaseException) -> str:
  return ' '.join(str(error).split()).strip('\'"')[:120]
