"""The rows of a study: records, light enough for config files to import."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
  """A variation of an experiment: a row of a study's table.

  Attributes:
    label: the row's name, or in a panel the name of its point.
    sets: the fields that it sets, `{'recognizer.frozen': 'none'}`.
    panel: the curve or the plot that it is a point of; '' if it stands alone.
    paper: the paper's figures by the heading of their column, in percent where
      ours are rates; columns without one are left out.
  """

  label: str
  sets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  panel: str = ''
  paper: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def name(self) -> str:
    """The label as tables show it."""
    return f'{self.panel}, {self.label}' if self.panel else self.label


def read(found: Any, headings: Sequence[str]) -> Row:
  """A row from a config: a record, or a dict as in JSON.

  Args:
    found: an element of `config.study.rows`.
    headings: those of the study's columns.

  Raises:
    TypeError: it is neither, or a part of it has the wrong type.
    ValueError: no folder can be named after it, or the paper has a figure for
      a column that is not there.
  """
  if isinstance(found, Row):
    found = vars(found)
  if not isinstance(found, Mapping):
    raise TypeError('no record')
  known = {'label', 'panel', 'sets', 'paper'}
  if 'label' not in found or not found.keys() <= known:
    odd = sorted(found.keys() - known)
    raise TypeError(f'{odd[0]!r}, which no row has' if odd else 'no label')
  for name in ('label', 'panel'):
    if not isinstance(found.get(name, ''), str):
      raise TypeError(f'a {name} that is no text')
  fields(found.get('sets', {}))
  _check_paper(fields(found.get('paper', {})), headings)
  row = Row(**found)
  if not slug(row.name):
    raise ValueError('a label without letters or digits')
  return row


def _check_paper(paper: Mapping[str, Any], headings: Sequence[str]) -> None:
  for heading, value in paper.items():
    if heading not in headings:
      raise ValueError(f"the paper's {heading!r}, which is no column")
    if not isinstance(value, (int, float)):
      raise TypeError(f"the paper's {heading!r}, which is no number")


def fields(found: Any) -> Mapping[str, Any]:
  """A dict of fields and their values.

  Raises:
    TypeError: it is not one.
  """
  if not isinstance(found, Mapping):
    raise TypeError('no dict of names and values')
  if not all(isinstance(name, str) for name in found):
    raise TypeError('a name that is no text')
  return found


def text(sets: Mapping[str, Any]) -> str:
  """The fields and values as text: `seed=1 recognizer.epochs=24`."""
  return ' '.join(f'{field}={value}' for field, value in sets.items())


def slug(label: str) -> str:
  """A folder name for a label: letters, digits, dots inside; may be ''."""
  return re.sub(r'[^A-Za-z0-9.]+', '_', label).strip('_.')
