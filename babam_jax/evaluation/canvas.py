"""Figures that no screen shows, and that leave matplotlib's settings alone."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from matplotlib.axes import Axes as Axes
  from matplotlib.figure import Figure as Figure
else:  # matplotlib takes half a second to load: it waits for the first figure
  Axes = Figure = Any


def subplots(
  rows: int = 1,
  columns: int = 1,
  *,
  figsize: tuple[float, float],
  **options: Any,
) -> tuple[Figure, Any]:
  """Does what `matplotlib.pyplot.subplots` does, without its list of open
  figures and its choice of a backend, which belong to the caller's process.

  Args:
    rows: of axes.
    columns: of axes.
    figsize: width and height, in inches.
    **options: further ones of `Figure.subplots`.
  """
  from matplotlib import figure as figures

  figure = figures.Figure(figsize=figsize, layout='constrained')
  return figure, figure.subplots(rows, columns, **options)
