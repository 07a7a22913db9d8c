"""Reads the `metrics.json` of a run, which may have been damaged since."""

import contextlib
import pathlib
from typing import Any

from babam_jax import files
from babam_jax.evaluation.metrics import MODEL_METRICS

NAME = 'metrics.json'
_RATES = {*MODEL_METRICS, 'tpr', 'fpr', 'auroc'}
_COUNTS = {
  *(metric.trials for metric in MODEL_METRICS.values() if metric.trials),
  'num_poisoned',
  'num_clean',
}


def read(folder: pathlib.Path) -> dict[str, Any]:
  """The metrics in a working folder.

  Raises:
    UserError: the file is damaged: a part that every run has is missing, or a
      rate or a count is no such number.
  """
  with as_written(folder):
    found = files.read_json(folder / NAME)
    for model in found['models'].values():
      _check(model, isinstance(model, dict), 'models')
    for stage in found['stages'].values():
      _check(stage['key'], isinstance(stage['key'], str), 'key')
      _check(stage['seconds'], _is_number(stage['seconds']), 'seconds')
    for part in ('models', 'pirm', 'detection'):
      _check_rates(found.get(part))
    return found


def as_written(
  folder: pathlib.Path,
) -> contextlib.AbstractContextManager[None]:
  """For reading more of the metrics in a working folder: what is missing is
  damage of the file, a `UserError`."""
  path = folder / NAME
  remedy = 'Remove it and give the command of its run again; stages are reused.'
  return files.as_written(path, 'results', remedy)


def _check_rates(found: Any) -> None:
  """Checks all rates and counts at any depth."""
  if not isinstance(found, dict):
    return
  for name, value in found.items():
    if name in _RATES:
      is_rate = _is_number(value) and 0 <= value <= 1
      _check(value, value is None or is_rate, name)
    elif name in _COUNTS:
      # Without a detector nothing was counted.
      is_count = isinstance(value, int) and value >= 0
      _check(value, value is None or is_count, name)
    elif name.endswith('_ci'):
      _check(value, _is_interval(value), name)
    else:
      _check_rates(value)


def _is_interval(value: Any) -> bool:
  return isinstance(value, list) and [*map(_is_number, value)] == [True] * 2


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _check(value: Any, is_right: bool, name: str) -> None:
  if not is_right:
    raise ValueError(f'its {name!r} is {str(value)[:50]!r}')
