"""Backdoor attacks on face recognition, and BA-BAM, in JAX and Flax.

  import babam_jax as bb

  pirm = bb.load_pirm('general')
  verdict = pirm.judge(images)
  clean = bb.sanitize(bb.examples(images, labels), verdict)

  report = bb.sanitize_folder('enrolments', 'clean')

The names in `__all__` are those to use. Importing the package loads nothing
else and sets nothing; each name brings its module when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from babam_jax.config.schema import default_config
  from babam_jax.cpu import configure as configure_cpu
  from babam_jax.data.examples import Examples, examples
  from babam_jax.defenses.noising import sanitize
  from babam_jax.defenses.pirm import Pirm, load_pirm
  from babam_jax.defenses.suspect import Verdict
  from babam_jax.errors import UserError
  from babam_jax.sanitizer.whole_folder import SanitizedFolder, sanitize_folder

__version__ = '0.1.0'
__all__ = [
  'Examples',
  'Pirm',
  'SanitizedFolder',
  'UserError',
  'Verdict',
  '__version__',
  'configure_cpu',
  'default_config',
  'examples',
  'load_pirm',
  'sanitize',
  'sanitize_folder',
]

# Where each public name is, as above: its module, and its name there.
_PLACES = {
  'Examples': ('data.examples', 'Examples'),
  'Pirm': ('defenses.pirm', 'Pirm'),
  'SanitizedFolder': ('sanitizer.whole_folder', 'SanitizedFolder'),
  'UserError': ('errors', 'UserError'),
  'Verdict': ('defenses.suspect', 'Verdict'),
  'configure_cpu': ('cpu', 'configure'),
  'default_config': ('config.schema', 'default_config'),
  'examples': ('data.examples', 'examples'),
  'load_pirm': ('defenses.pirm', 'load_pirm'),
  'sanitize': ('defenses.noising', 'sanitize'),
  'sanitize_folder': ('sanitizer.whole_folder', 'sanitize_folder'),
}

if not TYPE_CHECKING:  # who would believe that there is any name

  def __getattr__(name: str) -> Any:
    if name not in _PLACES:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, there = _PLACES[name]
    found = getattr(importlib.import_module(f'{__name__}.{module}'), there)
    globals()[name] = found  # the next time Python finds it by itself
    return found


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
