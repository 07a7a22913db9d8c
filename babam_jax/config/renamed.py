"""Fields that were renamed: the error tells the new name."""

import difflib
from collections.abc import Iterable

from babam_jax import errors

# Longer names first: the first that matches gives the new name.
_NEW_NAMES = {
  'attack.adaptive.beside': 'attack.adaptive.ensemble',
  'attack.grey': 'attack.gray',
  'defense.flags': 'defense.detector (victim is now victim_class)',
  'defense.action': 'defense.treatment (perturb is now noise)',
  'defense.epsilon': 'defense.noise.epsilon',
  'defense.mode': 'defense.noise.mode',
  'defense.distance': 'defense.noise.distance',
  'defense.training': 'defense.trainer',
  'defense.inputs': 'defense.input_check',
  'defense.deep_knn.neighbours': 'defense.deep_knn.neighbors',
  'pirm.checkpoint': 'defense.pirm.checkpoint',
  'pirm.beside': 'defense.pirm.ensemble',
  'pirm.threshold': 'defense.pirm.threshold',
  'pirm.score_batch_size': 'defense.pirm.batch_size',
  'pirm.grey_fraction': 'pirm.gray_fraction',
  'pirm.poison.grey': 'pirm.poison.gray',
  'pirm.poison.adaptive.beside': 'pirm.poison.adaptive.ensemble',
  'fr': 'recognizer',
}


def new_name(path: str) -> str | None:
  """The new name of a field that was renamed, else None."""
  for old, new in _NEW_NAMES.items():
    if path == old:
      return new
    if path.startswith(f'{old}.'):
      return new + path[len(old) :]
  return None


def unknown(path: str, known: Iterable[str]) -> errors.UserError:
  """The error for a field that does not exist.

  Args:
    path: its path below `config`, such as 'fr.epochs'.
    known: the paths of all fields.
  """
  new = new_name(path)
  if new:
    return errors.UserError(
      f'config.{path}: has another name now; expected config.{new}.'
    )
  near = difflib.get_close_matches(path, known, 1)
  expected = f'config.{near[0]}, or another' if near else 'one'
  return errors.UserError(
    f'config.{path}: there is no such field; expected {expected} of those in '
    'docs/reference/config.md, which babam_jax.default_config() has.'
  )
