"""The table of a study: ours beside the paper's, means over repeats."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from babam_jax.evaluation.statistics import wilson_interval

# Which counts in `metrics.json` are the trials behind a rate.
_TRIALS = {
  'models': {
    'accuracy': ('test_pictures',),
    'asr': ('source_test_pictures',),
    'asr_unpatched': ('source_test_pictures',),
  },
  'pirm': {
    'accuracy': ('num_poisoned', 'num_clean'),
    'tpr': ('num_poisoned',),
    'fpr': ('num_clean',),
  },
  'detection': {'tpr': ('num_poisoned',), 'fpr': ('num_clean',)},
}

# What has no figure where a defense flags nothing.
_MAY_BE_ABSENT = ('detection',)

Metrics = dict[str, Any]  # what is in `metrics.json`


class Entry(NamedTuple):
  """One figure of the table. Rates are fractions; counts are whole numbers.

  Attributes:
    values: one for each run; none where there is nothing to measure.
    interval: Wilson's 95 % over the test pictures of all runs, which counts a
      picture once for each run; None where no count of trials is known.
    paper: the paper's figure, in percent where ours is a rate.
  """

  values: list[float]
  interval: tuple[float, float] | None
  paper: float | None

  @property
  def is_count(self) -> bool:
    """Whether it counts pictures, and is no rate."""
    return bool(self.values) and all(
      isinstance(value, int) for value in self.values
    )

  @property
  def mean(self) -> float:
    """Over the runs; not a number where there is nothing."""
    return float(np.mean(self.values)) if self.values else float('nan')

  @property
  def deviation(self) -> float:
    """The standard deviation between runs; 0 for one run."""
    return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

  def __str__(self) -> str:
    if not self.values:
      return '-'
    if self.is_count:
      return f'{round(self.mean, 1):g}'
    text = f'{100 * self.mean:.1f}'
    if len(self.values) > 1:
      text += f' ± {100 * self.deviation:.1f}'
    if self.interval:
      text += ' [{:.1f}, {:.1f}]'.format(*(100 * x for x in self.interval))
    return text


class Row(NamedTuple):
  """A line of the table: its label, an entry for each column, how many runs
  they are of."""

  label: str
  entries: list[Entry]
  runs: int


def entry(runs: Sequence[Metrics], field: str, paper: float | None) -> Entry:
  """A field of several runs' metrics.

  Args:
    runs: each one's metrics.
    field: `models.malicious.asr`, for instance.
    paper: the paper's figure, if there is one.

  Raises:
    KeyError: the metrics have no such field, or no number in it.
  """
  *path, name = field.split('.')
  try:
    parents = runs
    for part in path:
      parents = [parent[part] for parent in parents]
    values = [parent[name] for parent in parents]
  except TypeError:  # nothing there, or no dict
    raise KeyError(field) from None
  if path and path[0] in _MAY_BE_ABSENT and values == [None] * len(values):
    return Entry([], None, paper)
  if not all(isinstance(value, (int, float)) for value in values):
    raise KeyError(field)
  counted = _TRIALS.get(path[0] if path else '', {}).get(name)
  interval = None
  if counted:
    trials = [sum(parent[count] for count in counted) for parent in parents]
    rate = float(np.average(values, weights=trials))
    interval = wilson_interval(rate, sum(trials))
  return Entry(values, interval, paper)


def pooled(rows: Sequence[Row]) -> list[Row]:
  """Mean, least and most of each column over all runs of all rows."""
  columns = [
    [value for row in rows for value in row.entries[i].values]
    for i in range(len(rows[0].entries))
  ]
  runs = sum(row.runs for row in rows)
  mean = Row('all: mean', [Entry(c, None, None) for c in columns], runs)
  extremes = [
    Row(
      f'all: {name}',
      [Entry([of(c)] if c else [], None, None) for c in columns],
      runs,
    )
    for name, of in (('least', min), ('most', max))
  ]
  return [mean, *extremes]


def header(headings: Sequence[str], rows: Sequence[Row]) -> list[str]:
  """The table's first line; a column for the paper where it has a figure."""
  cells = ['']
  for i, heading in enumerate(headings):
    cells.append(heading)
    if _has_paper(rows, i):
      cells.append('paper')
  return [*cells, 'runs']


def lines(rows: Sequence[Row]) -> list[list[str]]:
  """The table's other lines, in percent, to go with `header`."""
  return [_line(row, rows) for row in rows]


def _line(row: Row, rows: Sequence[Row]) -> list[str]:
  cells = [row.label]
  for i, found in enumerate(row.entries):
    cells.append(str(found))
    if _has_paper(rows, i):
      cells.append('-' if found.paper is None else f'{found.paper:g}')
  return [*cells, str(row.runs)]


def _has_paper(rows: Sequence[Row], column: int) -> bool:
  return any(row.entries[column].paper is not None for row in rows)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """A table in Markdown."""
  rows = [header, ['---'] * len(header), *lines]
  return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def as_json(headings: Sequence[str], rows: Sequence[Row]) -> list[dict]:
  """The table's rows for `metrics.json`."""
  return [
    {
      'label': row.label,
      'columns': {
        heading: {
          'mean': found.mean if found.values else None,
          'std': found.deviation,
          'interval': found.interval,
          'paper': found.paper,
          'values': found.values,
        }
        for heading, found in zip(headings, row.entries, strict=True)
      },
    }
    for row in rows
  ]
