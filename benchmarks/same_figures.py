"""Whether two runs, or two studies, have the same figures.

  python -m benchmarks.same_figures BEFORE/metrics.json AFTER/metrics.json

Seconds, and the keys of stages, may differ. Of two studies the values are
compared that both have: a study of one seed with the first of three.
"""

import json
import pathlib
from collections.abc import Iterator, Set
from typing import Any

from absl import app

from benchmarks import timing

_SHOWN = 3
_ROUNDING = 1e-12  # means and differences of the same numbers


def figures(found: Any, path: str = '') -> Iterator[tuple[str, Any]]:
  """The figures of a `metrics.json` by path, without seconds and keys."""
  if isinstance(found, dict):
    for name, value in found.items():
      if name != 'stages' and 'seconds' not in name:
        yield from figures(value, f'{path}/{name}')
  elif isinstance(found, list):
    for number, value in enumerate(found):
      yield from figures(value, f'{path}/{number}')
  else:
    yield path, found


def of_rows(study: dict[str, Any]) -> dict[str, Any]:
  """The values of a study by row and heading; means depend on their number."""
  return {
    row['label']: {
      heading: column['values'] for heading, column in row['columns'].items()
    }
    for row in study['rows']
  }


def read(path: str) -> dict[str, Any]:
  """The figures of a run or a study."""
  found = json.loads(pathlib.Path(path).read_text('utf-8'))
  return dict(figures(of_rows(found) if 'rows' in found else found))


def are_same(one: Any, other: Any) -> bool:
  """Whether two figures are equal, up to the rounding of a mean."""
  if isinstance(one, float) and isinstance(other, float):
    return abs(one - other) <= _ROUNDING
  return one == other


def _told(paths: Set[str]) -> dict[str, Any]:
  """How many, and the first of them."""
  return {'count': len(paths), 'first': sorted(paths)[:_SHOWN]}


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
  """How many figures are equal, which differ, which only one of them has."""
  both = [path for path in before if path in after]
  return {
    'equal': sum(are_same(before[path], after[path]) for path in both),
    'different': {
      path: [before[path], after[path]]
      for path in both
      if not are_same(before[path], after[path])
    },
    'only_before': _told(before.keys() - after.keys()),
    'only_after': _told(after.keys() - before.keys()),
  }


def main(argv) -> None:
  """Compares the two files."""
  _, before, after = argv
  timing.report(compare(read(before), read(after)))


if __name__ == '__main__':
  app.run(main)
