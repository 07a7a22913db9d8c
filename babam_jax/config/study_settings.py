"""A study: an experiment in variations, collected in one table."""

import dataclasses
from typing import Any

from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class StudySettings:
  """Rows, repeats and columns; without rows: the experiment alone."""

  title: str = setting('', 'The title of its table.')
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
    'What each repeat of a row sets; the table has the means over repeats.',
  )
  pooled: bool = setting(
    False,
    'Whether to add rows for the mean, minimum and maximum of all runs.',
  )
  x: str = setting(
    '',
    "The field on the x axis of the study's curves, one for each panel; '' for "
    'bars.',
  )
  tradeoff: tuple[str, ...] = setting(
    (),
    'Two headings, for the x and the y axis of scatter plots, one for each '
    'panel; (): none.',
  )
