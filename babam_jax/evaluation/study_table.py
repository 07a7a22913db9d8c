"""The table of a study: our means over repeats, beside the paper's figures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from babam_jax.evaluation.metrics import MODEL_METRICS
from babam_jax.evaluation.statistics import wilson_interval

# The counts in `metrics.json` that are the trials behind a rate.
_TRIALS = {
  'models': {
    name: (metric.trials,)
    for name, metric in MODEL_METRICS.items()
    if metric.trials
  },
  'pirm': {
    'accuracy': ('num_poisoned', 'num_clean'),
    'tpr': ('num_poisoned',),
    'fpr': ('num_clean',),
  },
  'detection': {'tpr': ('num_poisoned',), 'fpr': ('num_clean',)},
}

# Metrics that have no figure where a defense flags nothing.
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
    """Whether it is a count of pictures, not a rate."""
    return bool(self.values) and all(
      isinstance(value, int) for value in self.values
    )

  @property
  def mean(self) -> float:
    """The mean over the runs; NaN without values."""
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


class Line(NamedTuple):
  """A line of the table.

  Attributes:
    label: the label of its row.
    entries: one for each column.
    runs: the number of runs behind the entries.
    panel: the curve or the plot that it is a point of; '' if it stands alone.
  """

  label: str
  entries: list[Entry]
  runs: int
  panel: str = ''

  @property
  def name(self) -> str:
    """The label as the table shows it."""
    return f'{self.panel}, {self.label}' if self.panel else self.label


def entry(runs: Sequence[Metrics], field: str, paper: float | None) -> Entry:
  """A field of several runs' metrics.

  Args:
    runs: the metrics of each run.
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


def pooled(lines: Sequence[Line]) -> list[Line]:
  """Mean, minimum and maximum of each column over all runs of all lines."""
  columns = [
    [value for line in lines for value in line.entries[i].values]
    for i in range(len(lines[0].entries))
  ]
  runs = sum(line.runs for line in lines)
  mean = Line('all: mean', [Entry(c, None, None) for c in columns], runs)
  extremes = [
    Line(
      f'all: {name}',
      [Entry([of(c)] if c else [], None, None) for c in columns],
      runs,
    )
    for name, of in (('least', min), ('most', max))
  ]
  return [mean, *extremes]


def header(headings: Sequence[str], lines: Sequence[Line]) -> list[str]:
  """The table's first line; a column for the paper where it has a figure."""
  cells = ['']
  for i, heading in enumerate(headings):
    cells.append(heading)
    if _has_paper(lines, i):
      cells.append('paper')
  return [*cells, 'runs']


def cells(lines: Sequence[Line]) -> list[list[str]]:
  """The table's other lines as text, in percent, to go with `header`."""
  return [_cells(line, lines) for line in lines]


def _cells(line: Line, lines: Sequence[Line]) -> list[str]:
  found = [line.name]
  for i, entry in enumerate(line.entries):
    found.append(str(entry))
    if _has_paper(lines, i):
      found.append('-' if entry.paper is None else f'{entry.paper:g}')
  return [*found, str(line.runs)]


def _has_paper(lines: Sequence[Line], column: int) -> bool:
  return any(line.entries[column].paper is not None for line in lines)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """A table in Markdown."""
  rows = [header, ['---'] * len(header), *lines]
  return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def as_json(headings: Sequence[str], lines: Sequence[Line]) -> list[dict]:
  """The table's rows for `metrics.json`."""
  return [
    {
      'label': line.name,
      'columns': {
        heading: {
          'mean': found.mean if found.values else None,
          'std': found.deviation,
          'interval': found.interval,
          'paper': found.paper,
          'values': found.values,
        }
        for heading, found in zip(headings, line.entries, strict=True)
      },
    }
    for line in lines
  ]
