"""The report: one self-contained HTML file."""

import base64
import io
import json
import pathlib
from typing import Any

import jinja2
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from babam_jax import files
from babam_jax.evaluation import table

_TEMPLATE = pathlib.Path(__file__).with_name('report.html.jinja')


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
    results: what is in `metrics.json`.
    config: the experiment's config, as a plain dict.
    surroundings: how to repeat the run, and what it ran on.
    figures: by name; the template knows the names.
  """
  pictures = {}
  for name, figure in figures.items():
    png = _as_png(figure)
    with files.whole_file(workdir / 'figures' / f'{name}.png') as file:
      file.write(png)
    pictures[name] = base64.b64encode(png).decode('ascii')
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  template = environment.from_string(_TEMPLATE.read_text('utf-8'))
  html = template.render(
    config=config,
    config_json=json.dumps(config, indent=2, sort_keys=True),
    results=results,
    surroundings=surroundings,
    pictures=pictures,
    tables=(
      (table.MODEL_HEADER, table.model_rows(results)),
      (table.PIRM_HEADER, table.pirm_rows(results)),
    ),
  )
  files.write_text(workdir / 'report.html', html)


def _as_png(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=110, metadata={'Software': None})
  plt.close(figure)
  return buffer.getvalue()
