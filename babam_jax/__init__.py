"""Backdoor attacks on face recognition, and BA-BAM, in JAX and Flax.

  import babam_jax as bb

  pirm = bb.load_pirm('general')
  verdict = pirm.judge(images)
  clean = bb.sanitize(bb.examples(images, labels), verdict)

  poison = bb.HiddenTrigger(eps=16).craft(targets, sources, seed=0)
  report = bb.sanitize_folder('enrollments', 'clean')

`__all__` lists the public names. Importing the package changes no setting; the
module of a name is loaded when the name is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from babam_jax.attacks.badnets import BadNets
  from babam_jax.attacks.base import Crafted
  from babam_jax.attacks.blended import Blended
  from babam_jax.attacks.hidden_trigger import HiddenTrigger
  from babam_jax.attacks.label_consistent import LabelConsistent
  from babam_jax.config.schema import default_config
  from babam_jax.cpu import configure as configure_cpu
  from babam_jax.data.examples import Examples, examples
  from babam_jax.defenses.filtered import Filtered
  from babam_jax.defenses.noising import sanitize
  from babam_jax.defenses.pirm import Pirm, load_pirm
  from babam_jax.defenses.suspect import Verdict
  from babam_jax.errors import UserError
  from babam_jax.experiment.pipeline import run as run_experiment
  from babam_jax.sanitizer.whole_folder import SanitizedFolder, sanitize_folder

__version__ = '1.0.0rc1'
__all__ = [
  'BadNets',
  'Blended',
  'Crafted',
  'Examples',
  'Filtered',
  'HiddenTrigger',
  'LabelConsistent',
  'Pirm',
  'SanitizedFolder',
  'UserError',
  'Verdict',
  '__version__',
  'configure_cpu',
  'default_config',
  'examples',
  'load_pirm',
  'run_experiment',
  'sanitize',
  'sanitize_folder',
]

# Public name: (its module, its name there), as in the imports above.
_PLACES = {
  'BadNets': ('attacks.badnets', 'BadNets'),
  'Blended': ('attacks.blended', 'Blended'),
  'Crafted': ('attacks.base', 'Crafted'),
  'Filtered': ('defenses.filtered', 'Filtered'),
  'HiddenTrigger': ('attacks.hidden_trigger', 'HiddenTrigger'),
  'LabelConsistent': ('attacks.label_consistent', 'LabelConsistent'),
  'Examples': ('data.examples', 'Examples'),
  'Pirm': ('defenses.pirm', 'Pirm'),
  'SanitizedFolder': ('sanitizer.whole_folder', 'SanitizedFolder'),
  'UserError': ('errors', 'UserError'),
  'Verdict': ('defenses.suspect', 'Verdict'),
  'configure_cpu': ('cpu', 'configure'),
  'default_config': ('config.schema', 'default_config'),
  'examples': ('data.examples', 'examples'),
  'load_pirm': ('defenses.pirm', 'load_pirm'),
  'run_experiment': ('experiment.pipeline', 'run'),
  'sanitize': ('defenses.noising', 'sanitize'),
  'sanitize_folder': ('sanitizer.whole_folder', 'sanitize_folder'),
}

if not TYPE_CHECKING:  # they would accept any name

  def __getattr__(name: str) -> Any:
    if name not in _PLACES:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, there = _PLACES[name]
    found = getattr(importlib.import_module(f'{__name__}.{module}'), there)
    globals()[name] = found  # later uses do not come here
    return found


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
