"""A study: an experiment in variations, collected in one table."""

import dataclasses
from typing import Any

from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class StudySettings:
  """Its rows, repeats and columns; no rows: the experiment alone."""

  title: str = setting('', 'What it shows.')
  note: str = setting(
    '', "What the reader must know to compare its figures with the paper's."
  )
  rows: tuple[Any, ...] = setting(
    (), 'What each row sets, as `config.rows.Row`, or as a dict of its parts.'
  )
  columns: tuple[tuple[str, str], ...] = setting(
    (),
    "(heading, field of metrics.json): ('ASR', 'models.malicious.asr').",
  )
  repeats: tuple[Any, ...] = setting(
    ({'seed': 0},),
    'What the repeats of each row set; the table has their means.',
  )
  pooled: bool = setting(
    False,
    'Whether rows for the mean, the least and the most of all runs follow.',
  )
  x: str = setting(
    '',
    "The field on the x axis of the study's curves, of which each panel is "
    "one; '' for bars.",
  )
  tradeoff: tuple[str, ...] = setting(
    (),
    'Two headings, for the x and the y axis of scatter plots, one for each '
    'panel; (): none.',
  )
