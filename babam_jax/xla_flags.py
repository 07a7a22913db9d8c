"""XLA's settings in the environment; what the user has set there is kept."""

import os
from collections.abc import Mapping

_VARIABLE = 'XLA_FLAGS'


def add(settings: Mapping[str, str]) -> None:
  """Adds settings, `--name: value`, that the user has not made.

  JAX reads them when it first computes: call this before that, no matter
  whether before or after `import jax`. If the user has named a file of
  settings, it alone counts.
  """
  flags = os.environ.get(_VARIABLE, '')
  if flags and not flags.lstrip().startswith('-'):
    return  # the name of a file
  chosen = [f'{k}={v}' for k, v in settings.items() if k not in flags]
  if chosen:
    os.environ[_VARIABLE] = ' '.join([flags, *chosen]).strip()
