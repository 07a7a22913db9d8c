"""The figures of a study or a sweep, as matplotlib figures."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from babam_jax.evaluation.canvas import Axes, Figure, subplots
from babam_jax.evaluation.study_table import Entry, Line

_MARKERS = 'osD^vPX*<>'
_COLORS = [
  f'tab:{name}'
  for name in (
    'blue orange green red purple brown pink gray olive cyan'.split()
  )
]
_PANELS_ACROSS = 4  # in a figure


def rates(
  headings: Sequence[str],
  lines: Sequence[Line],
  points: Sequence[float | None],
  x: str,
) -> Figure:
  """A study's rates: curves where lines have a place on the x axis, else bars.

  Args:
    headings: those of the columns. Rates have a panel each, counts have none.
    lines: those of the table; lines of one panel make a curve.
    points: each line's place on the x axis, or None.
    x: what the x axis shows.
  """
  rates = [
    column
    for column in range(len(headings))
    if not any(line.entries[column].is_count for line in lines)
  ]
  across = min(_PANELS_ACROSS, max(1, len(rates)))
  down = -(-max(1, len(rates)) // across)
  figure, axes = subplots(
    down,
    across,
    figsize=(max(6, 3.4 * across), 4 * down),
    sharey=True,
    squeeze=False,
  )
  for ax in axes.flat[len(rates) :]:
    ax.set_axis_off()
  for ax, column in zip(axes.flat, rates, strict=False):
    if all(point is None for point in points):
      _bars(ax, [(line.name, line.entries[column]) for line in lines])
    else:
      _curves(ax, lines, column, points, x)
    ax.set(title=headings[column])
    ax.grid(alpha=0.3)
  handles, labels = axes[0, 0].get_legend_handles_labels()
  figure.legend(
    handles, labels, fontsize=8, loc='outside lower center', ncols=3
  )
  return figure


def _bars(ax: Axes, entries: Sequence[tuple[str, Entry]]) -> None:
  places = np.arange(len(entries))
  ax.barh(
    places,
    [100 * entry.mean for _, entry in entries],
    xerr=[100 * entry.deviation for _, entry in entries],
    color='#88aacc',
    capsize=3,
    label='ours, +- deviation of runs',
  )
  ax.plot(
    [np.nan if e.paper is None else e.paper for _, e in entries],
    places,
    'kd',
    label='paper',
  )
  ax.set_yticks(places, [label for label, _ in entries], fontsize=8)
  ax.set(xlabel='percent', ylim=(len(entries) - 0.5, -0.5))


def _curves(
  ax: Axes,
  lines: Sequence[Line],
  column: int,
  points: Sequence[float | None],
  x: str,
) -> None:
  curves: dict[str, list[tuple[float, Entry]]] = {}
  levels = itertools.cycle(('--', ':', '-.'))
  for line, point in zip(lines, points, strict=True):
    entry = line.entries[column]
    if point is None:  # no place on the axis: a horizontal line
      style = next(levels)
      ax.axhline(
        100 * entry.mean, linestyle=style, label=line.name, color='#555555'
      )
    else:
      curves.setdefault(line.panel, []).append((point, entry))
  for number, (name, found) in enumerate(curves.items()):
    found = sorted(found, key=lambda pair: pair[0])
    thick = 1.2 + 3 / (1 + number)  # a curve under another is still seen
    ax.errorbar(
      [point for point, _ in found],
      [100 * entry.mean for _, entry in found],
      yerr=[100 * entry.deviation for _, entry in found],
      linewidth=thick,
      elinewidth=1.2,
      marker='o',
      markersize=3 + 2 * thick,
      capsize=3,
      label=name,
    )
  ax.set(xscale='log', ylabel='percent', xlabel=x, ylim=(-3, 103))
  if x.endswith('noise.epsilon'):
    ax.invert_xaxis()  # noise grows to the right


def tradeoff(
  headings: Sequence[str], lines: Sequence[Line], axes: Sequence[str]
) -> Figure:
  """What one rate costs in another: a point for each line.

  Args:
    headings: those of the columns.
    lines: those of the table; each panel has a plot of its own.
    axes: the headings of the x and of the y axis.
  """
  x, y = (headings.index(heading) for heading in axes)
  panels: dict[str, list[tuple[str, Entry, Entry]]] = {}
  for line in lines:
    entry = (line.label, line.entries[x], line.entries[y])
    panels.setdefault(line.panel, []).append(entry)
  names = list(dict.fromkeys(name for p in panels.values() for name, *_ in p))
  across = min(_PANELS_ACROSS, len(panels))
  down = -(-len(panels) // across)
  figure, grid = subplots(
    down,
    across,
    figsize=(max(7, 3.6 * across), 3.6 * down + 0.25 * len(names) / 2),
    sharex=True,
    sharey=True,
    squeeze=False,
  )
  for ax in grid.flat[len(panels) :]:
    ax.set_axis_off()
  for ax in grid.flat[len(panels) - across : len(panels)]:
    ax.tick_params(labelbottom=True)  # below may be no panel
  for ax, (title, points) in zip(grid.flat, panels.items(), strict=False):
    for name, across_x, across_y in points:
      _point(ax, name, names.index(name), across_x, across_y)
    ax.set(title=title, xlabel=axes[0], ylabel=axes[1], ylim=(-3, 103))
    ax.grid(alpha=0.3)
  legend = dict(_labeled(grid.flat))
  figure.legend(
    [legend[name] for name in names],
    names,
    fontsize=8,
    loc='outside lower center',
    ncols=3,
  )
  return figure


def _point(ax: Axes, name: str, number: int, x: Entry, y: Entry) -> None:
  """A mean with its deviations; color and marker by its number."""
  ax.errorbar(
    100 * x.mean,
    100 * y.mean,
    xerr=100 * x.deviation,
    yerr=100 * y.deviation,
    color=_COLORS[number % len(_COLORS)],
    marker=_MARKERS[(number + number // len(_COLORS)) % len(_MARKERS)],
    markersize=7,
    linestyle='none',
    elinewidth=0.7,
    label=name,
  )


def _labeled(axes: Iterable[Axes]) -> Iterator[tuple[str, Any]]:
  for ax in axes:
    handles, labels = ax.get_legend_handles_labels()
    yield from zip(labels, handles, strict=True)
