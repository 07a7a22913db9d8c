"""The final table, in plain text."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def _percent(rate: float | None) -> str:
  return '-' if rate is None else f'{100 * rate:.1f}'


def _with_interval(rate: float, interval: tuple[float, float]) -> str:
  low, high = (_percent(bound) for bound in interval)
  return f'{_percent(rate)} [{low}, {high}]'


def model_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
  """Model, accuracy, ASR, base rate, patched source recognized (percent)."""
  return [
    (
      name,
      _with_interval(m['accuracy'], m['accuracy_ci']),
      _with_interval(m['asr'], m['asr_ci']),
      _with_interval(m['asr_unpatched'], m['asr_unpatched_ci']),
      _percent(m['source_accuracy_patched']),
    )
    for name, m in results['models'].items()
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
    for name, found in results['pirm'].items()
    if found
  ]


def defense_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
  """What the defense detects, what it costs, what it says it has found."""
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


MODEL_HEADER = (
  'model',
  'accuracy % [95 %]',
  'ASR % [95 %]',
  'no-patch base %',
  'patched source recognized %',
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
  """Both tables as text."""
  return as_text(MODEL_HEADER, model_rows(results)) + as_text(
    PIRM_HEADER, pirm_rows(results)
  )
