"""The final table, in plain text."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from babam_jax.evaluation.metrics import MODEL_METRICS
from babam_jax.evaluation.verification import FALSE_ACCEPTS

# Runs from before have no such figure.
_ADDED_LATER = {'victim_recognized'}


def _percent(rate: float | None) -> str:
  return '-' if rate is None else f'{100 * rate:.1f}'


def _with_interval(rate: float, interval: Sequence[float]) -> str:
  low, high = (_percent(bound) for bound in interval)
  return f'{_percent(rate)} [{low}, {high}]'


def model_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
  """The name and the metrics of each model, in percent, in the order of
  `MODEL_HEADER`."""
  return [
    (name, *(_rate(found, metric) for metric in MODEL_METRICS))
    for name, found in results['models'].items()
  ]


def _rate(found: dict[str, Any], metric: str) -> str:
  if metric in _ADDED_LATER and metric not in found:
    return _percent(None)
  interval = found.get(f'{metric}_ci')
  if interval is None:
    return _percent(found[metric])
  return _with_interval(found[metric], interval)


def verification_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
  """How well each model verifies people (1:1), in the order of
  `VERIFICATION_HEADER`; none of a model without templates."""
  return [
    (
      name,
      _percent(found['verification']['eer']),
      *(
        _percent(found['verification'][rate][what])
        for rate in FALSE_ACCEPTS
        for what in ('tar', 'accepted', 'accepted_unpatched')
      ),
    )
    for name, found in results['models'].items()
    if 'verification' in found
  ]


def pirm_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
  """Pictures, accuracy, TPR, FPR (percent), AUROC."""
  return [
    (
      name.replace('_', ' '),
      _percent(found['accuracy']),
      _percent(found['tpr']),
      _percent(found['fpr']),
      '-' if found['auroc'] is None else f'{found["auroc"]:.4f}',
    )
    for name, found in _judged_pirms(results['pirm']).items()
    if found
  ]


def _judged_pirms(judged: dict[str, Any]) -> dict[str, Any]:
  """The rates of all PIRMs on all pictures, by what they are of."""
  found = {name: rates for name, rates in judged.items() if name != 'ensemble'}
  others = judged.get('ensemble', {}).items()
  return found | {f'holdout of {name}': rates for name, rates in others}


def defense_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
  """What the defense detects, what it costs, what else it reports."""
  detection, cost = results['detection'], results['cost']
  rows = [
    ('TPR %', _percent(detection['tpr'])),
    ('FPR %', _percent(detection['fpr'])),
    ('AUROC %', _percent(detection['auroc'])),
    ('accuracy drop %', _percent(results['accuracy_drop'])),
    (
      "BackdoorBench's effectiveness %",
      _percent(results['defense_effectiveness']),
    ),
    ('seconds', str(cost['seconds'])),
    (
      'evaluations a training picture',
      str(cost['evaluations_per_training_picture']),
    ),
    ('evaluations an input', str(cost['evaluations_per_input'])),
    ('evaluations beforehand', str(cost['evaluations_beforehand'])),
  ]
  found = results['found'].items()
  return rows + [(key.replace('_', ' '), _brief(value)) for key, value in found]


def _brief(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.3g}'
  if isinstance(value, list):
    return ', '.join(map(_brief, value)) or 'none'
  if isinstance(value, dict):
    return ', '.join(f'{key}: {_brief(found)}' for key, found in value.items())
  return str(value)


MODEL_HEADER = ('model [95 %]', *(m.heading for m in MODEL_METRICS.values()))
VERIFICATION_HEADER = (
  'verification (1:1)',
  'EER %',
  *(
    f'{what} at FAR {100 * rate:g} %'
    for rate in FALSE_ACCEPTS.values()
    for what in ('TAR', 'attacker accepted', 'without patch')
  ),
)
DEFENSE_HEADER = ('the defense', '')
PIRM_HEADER = ('PIRM on', 'accuracy %', 'TPR %', 'FPR %', 'AUROC')


def as_text(
  header: Sequence[str],
  rows: Sequence[Sequence[str]],
  title: str | None = None,
  width: int = 110,
) -> str:
  """A table for the terminal."""
  drawn = Table(*header, title=title)
  for row in rows:
    drawn.add_row(*row)
  console = Console(width=width)
  with console.capture() as captured:
    console.print(drawn)
  return captured.get()


def render(results: dict[str, Any]) -> str:
  """The models, the PIRM if there is one, and the defense, as text."""
  tables = [
    (MODEL_HEADER, model_rows(results)),
    (VERIFICATION_HEADER, verification_rows(results)),
    (PIRM_HEADER, pirm_rows(results)),
    (DEFENSE_HEADER, defense_rows(results)),
  ]
  return ''.join(as_text(header, rows) for header, rows in tables if rows)
