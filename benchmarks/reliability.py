"""What the long tests of reliability have done, from pytest's own records.

  python -m pytest -m slow tests/reliability --junitxml=FILE
  python -m benchmarks.reliability --junit=FILE

One line of JSON: for each test how it ended, its seconds, and what it counted.
"""

import ast
import json
import xml.etree.ElementTree as ElementTree
from typing import Any

from absl import app, flags

from babam_jax.experiment import environment

_JUNIT = flags.DEFINE_multi_string('junit', None, 'A record.', required=True)
_NOT_PASSED = ('failure', 'error', 'skipped')


def tests(path: str) -> list[dict[str, Any]]:
  """The tests of a record."""
  root = ElementTree.parse(path).getroot()
  return [_test(case) for case in root.iter('testcase')]


def _test(case: ElementTree.Element) -> dict[str, Any]:
  outcomes = (name for name in _NOT_PASSED if case.find(name) is not None)
  return {
    'test': case.get('name'),
    'outcome': next(outcomes, 'passed'),
    'seconds': round(float(case.get('time', 0))),
    **{
      found.get('name'): ast.literal_eval(found.get('value', ''))
      for found in case.iter('property')
    },
  }


def main(argv: list[str]) -> None:
  """Prints one line of JSON."""
  del argv
  found = [test for path in _JUNIT.value for test in tests(path)]
  surroundings = environment.describe(
    'python -m pytest -m slow tests/reliability --junitxml=FILE'
  )
  print(json.dumps({'tests': found, 'environment': surroundings}))


if __name__ == '__main__':
  app.run(main)
