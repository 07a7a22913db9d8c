"""How to call our commands, for messages and reports."""

import pathlib
import re
import sys

PROGRAM = 'babam'
_REPOSITORY = pathlib.Path(__file__).parents[1]
# Verbs whose module in the repository's `launch` folder has another name.
_LAUNCHED_AS = {'run': 'main'}
_VERB_OF = {module: verb for verb, module in _LAUNCHED_AS.items()}


def line(verb: str) -> str:
  """A command, ready to be followed by its options.

  Args:
    verb: 'run', 'sanitize', 'pirm', 'weights', 'sweep', 'report' or
      'artifacts'.

  Returns:
    `babam run` where the package is installed; `python -m launch.main` in the
    repository, unless this process was itself started as `babam`.
  """
  module = _LAUNCHED_AS.get(verb, verb)
  here = ('pyproject.toml', f'launch/{module}.py')
  in_repository = all((_REPOSITORY / path).is_file() for path in here)
  if in_repository and not ''.join(sys.argv[:1]).startswith(f'{PROGRAM} '):
    return f'python -m launch.{module}'
  return f'{PROGRAM} {verb}'


def adapted(text: str) -> str:
  """A text with each `python -m launch.X` in it written as `line` does."""
  return re.sub(
    r'python -m launch\.(\w+)',
    lambda found: line(_VERB_OF.get(found[1], found[1])),
    text,
  )
