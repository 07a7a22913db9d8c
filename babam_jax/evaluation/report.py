"""The report: one self-contained HTML file."""

import base64
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jinja2

from babam_jax import files
from babam_jax.evaluation import table
from babam_jax.evaluation.canvas import Figure


def write(
  workdir: pathlib.Path,
  results: dict[str, Any],
  config: dict[str, Any],
  surroundings: dict[str, Any],
  figures: dict[str, Figure],
) -> None:
  """Writes `figures/<name>.png` and `report.html`, and closes the figures.

  Args:
    workdir: the folder to write to.
    results: the contents of `metrics.json`.
    config: the experiment's config, as a plain dict.
    surroundings: how to repeat the run, and what it ran on.
    figures: the figures, by the names that the template uses.
  """
  html = _template('report').render(
    config=config,
    config_json=json.dumps(config, indent=2, sort_keys=True),
    results=results,
    surroundings=surroundings,
    pictures=_embedded(figures, workdir / 'figures'),
    tables=(
      (table.MODEL_HEADER, table.model_rows(results)),
      (table.VERIFICATION_HEADER, table.verification_rows(results)),
      (table.PIRM_HEADER, table.pirm_rows(results)),
      (table.DEFENSE_HEADER, table.defense_rows(results)),
    ),
  )
  files.write_text(workdir / 'report.html', html)


class Section(NamedTuple):
  """A table with figures.

  Attributes:
    title: its heading.
    header: the table's first line.
    lines: the table's other lines.
    figures: the figures by name.
    note: what a reader should know.
    captions: of figures, by name: what one sees there, in a sentence.
  """

  title: str
  header: Sequence[str]
  lines: Sequence[Sequence[str]]
  figures: dict[str, Figure]
  note: str
  captions: Mapping[str, str] = MappingProxyType({})


def write_sections(
  path: pathlib.Path,
  title: str,
  sections: Sequence[Section],
  surroundings: dict[str, Any],
  figure_folder: pathlib.Path | None,
  verdict: str = '',
) -> None:
  """Writes a page of tables and figures, and closes the figures.

  Args:
    path: the page, one self-contained file.
    title: the page's heading.
    sections: one table each.
    surroundings: how to repeat the run, and what it ran on.
    figure_folder: a folder for the figures as PNG files, too; None: none.
    verdict: what all of it says, in a sentence or two.
  """
  filled = [
    (section, _embedded(section.figures, figure_folder)) for section in sections
  ]
  html = _template('sections').render(
    title=title,
    sections=filled,
    surroundings=surroundings,
    verdict=verdict,
  )
  files.write_text(path, html)


def _embedded(
  figures: dict[str, Figure], folder: pathlib.Path | None
) -> dict[str, str]:
  """Each figure as PNG in Base64; writes `<folder>/<name>.png` too."""
  pictures = {}
  for name, figure in figures.items():
    png = _as_png(figure)
    if folder:
      with files.whole_file(folder / f'{name}.png') as file:
        file.write(png)
    pictures[name] = base64.b64encode(png).decode('ascii')
  return pictures


def _template(name: str) -> jinja2.Template:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template(f'{name}.html.jinja')


def _as_png(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  figure.savefig(
    buffer,
    format='png',
    dpi=110,
    metadata={'Software': None},
    # A tenth more bytes than by default, in half the time.
    pil_kwargs={'compress_level': 3},
  )
  return buffer.getvalue()
