"""The form of a study: what `config.study` may hold."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from babam_jax import errors
from babam_jax.config import rows
from babam_jax.config.rows import Row


def read_rows(config: ConfigDict) -> list[Row]:
  """The rows of a study.

  Raises:
    UserError: rows, columns, repeats, x or tradeoff are not as in
      `babam_jax/config/schema.py`.
  """
  study = config.study
  columns = _read_each(
    study, 'columns', _column, '(heading, field of metrics.json)'
  )
  _read_each(study, 'repeats', rows.fields, "dicts like {'seed': 1}")
  headings = [heading for heading, _ in columns]
  found = _read_each(
    study,
    'rows',
    lambda one: rows.read(one, headings),
    "records like Row('label', {'seed': 1})",
  )
  _check_models(config, columns, found)
  if study.x:
    value_of(config, study.x)
  if study.tradeoff and not (
    len(study.tradeoff) == 2 and set(study.tradeoff) <= set(headings)
  ):
    raise errors.UserError(
      f'config.study.tradeoff: found {study.tradeoff!r}; expected two of the '
      f'headings in config.study.columns: {", ".join(headings)}.'
    )
  return found


def _check_models(
  config: ConfigDict, columns: list[tuple[str, str]], found: list[Row]
) -> None:
  """Columns are read when all runs are done: a model that none of them trains
  is told before."""
  trained = set(config.models)
  trained.update(*(row.sets.get('models', ()) for row in found))
  for _, field in columns:
    kind, _, rest = field.partition('.')
    name = rest.partition('.')[0]
    if kind == 'models' and name not in trained:
      raise errors.UserError(
        f'config.study.columns: found {field!r}; expected a model that is '
        f'trained: {", ".join(sorted(trained))}. Add it to config.models, or '
        'name another.'
      )


def _column(found: Any) -> tuple[str, str]:
  heading, field = found
  if not isinstance(heading, str) or not isinstance(field, str):
    raise TypeError('no text')
  return heading, field


def _read_each(
  study: ConfigDict, name: str, read: Callable[[Any], Any], expected: str
) -> list[Any]:
  expected = f'expected one or more {expected}. See babam_jax/config/schema.py.'
  found = []
  for one in study[name]:
    try:
      found.append(read(one))
    except (TypeError, ValueError) as error:
      raise errors.UserError(
        f'config.study.{name}: found {one!r} ({error}); {expected}'
      ) from None
  if not found:
    raise errors.UserError(f'config.study.{name}: found nothing; {expected}')
  return found


def value_of(config: ConfigDict, field: str) -> float:
  """The value of a study's field on the x axis.

  Raises:
    UserError: there is no such field, or it is no number.
  """
  value: Any = config
  try:
    for name in field.split('.'):
      value = value[name]
    return float(value)
  except (KeyError, TypeError, ValueError):
    raise errors.UserError(
      f'config.study.x: found {field!r}; expected a field of '
      'babam_jax/config/schema.py that is a number.'
    ) from None
