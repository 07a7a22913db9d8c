"""Checks of a config before anything is computed or written."""

import itertools
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from babam_jax import errors, files
from babam_jax.attack import hidden_trigger, pairing
from babam_jax.data import datasets
from babam_jax.defense import babam, noise, pirm
from babam_jax.models import alexnet
from babam_jax.training import optimizer, recognizer

_TASKS = ('multiclass', 'binary')
_CRAFTING_CHOICES = {
  'pretrained': recognizer.PRETRAINED,
  'tap': alexnet.TAPS,
  'optimizer': tuple(hidden_trigger.OPTIMIZERS),
  'pairing': tuple(pairing.PAIRINGS),
}
_CHOICES = {
  'data.name': tuple(datasets.DATASETS),
  'scenario.task': _TASKS,
  'fr.model': recognizer.MODELS,
  'fr.pretrained': recognizer.PRETRAINED,
  'fr.frozen': recognizer.FROZEN,
  'fr.optimizer': optimizer.OPTIMIZERS,
  'pirm.variant': pirm.VARIANTS,
  'pirm.optimizer': optimizer.OPTIMIZERS,
  'defense.flags': ('pirm', 'oracle'),
  'defense.action': babam.ACTIONS,
  'defense.mode': noise.MODES,
  'defense.distance': noise.DISTANCES,
  **{f'attack.{name}': found for name, found in _CRAFTING_CHOICES.items()},
  **{f'pirm.poison.{name}': c for name, c in _CRAFTING_CHOICES.items()},
}
_POSITIVE = (
  'data.min_images',
  'scenario.poison_images',
  'scenario.test_images',
  'scenario.negatives',
  'attack.passes',
  'fr.width',
  'fr.learning_rate',
  'fr.epochs',
  'fr.batch_size',
  'fr.checkpoint_every',
  'pirm.score_batch_size',
  'pirm.num_poison',
  'pirm.num_clean',
  'pirm.learning_rate',
  'pirm.epochs',
  'pirm.batch_size',
  'pirm.checkpoint_every',
  'defense.epsilon',
  'evaluation.positions',
  'evaluation.batch_size',
  *(
    f'{node}.{name}'
    for node in ('attack', 'pirm.poison')
    for name in (
      'eps',
      'iterations',
      'pair_every',
      'batch_size',
      'trigger_size',
    )
  ),
)
_FRACTIONS = (
  'scenario.test_fraction',
  'pirm.grey_fraction',
  'pirm.holdout_fraction',
  'pirm.threshold',
)
_SMALLEST_PICTURE = 63  # AlexNet's
_VGG16_CONVS = 13


def _field(config: ConfigDict, path: str) -> Any:
  for name in path.split('.'):
    config = config[name]
  return config


def _refuse(path: str, found: Any, expected: str, remedy: str) -> None:
  raise errors.UserError(
    f'config.{path}: found {found!r}, expected {expected}. {remedy}'
  )


def check(config: ConfigDict) -> None:
  """Checks the fields that need no data.

  Raises:
    UserError: a field is out of its range; the message names it.
  """
  for path, choices in _CHOICES.items():
    if _field(config, path) not in choices:
      _refuse(
        path,
        _field(config, path),
        f'one of {", ".join(choices)}',
        f'Set it with --config.{path}=...',
      )
  for path in _POSITIVE:
    if not _field(config, path) > 0:
      _refuse(
        path,
        _field(config, path),
        'a number above 0',
        f'Set it with --config.{path}=...',
      )
  for path in _FRACTIONS:
    if not 0 <= _field(config, path) <= 1:
      _refuse(
        path,
        _field(config, path),
        'a fraction from 0 to 1',
        f'Set it with --config.{path}=...',
      )
  if config.seed < 0:
    _refuse('seed', config.seed, '0 or more', 'Set it with --config.seed=0.')
  for path in ('attack.eps', 'pirm.poison.eps'):
    if _field(config, path) < 1:
      _refuse(
        path,
        _field(config, path),
        'at least 1 grey level, as pictures are saved in 8 bits',
        f'Set it with --config.{path}=16.',
      )
  if not 0 <= config.pirm.trainable_convs <= _VGG16_CONVS:
    _refuse(
      'pirm.trainable_convs',
      config.pirm.trainable_convs,
      f'0 to {_VGG16_CONVS}',
      'Set it with --config.pirm.trainable_convs=6.',
    )
  if config.pirm.holdout_fraction in (0, 1):
    _refuse(
      'pirm.holdout_fraction',
      config.pirm.holdout_fraction,
      'a fraction between 0 and 1',
      'Set it with --config.pirm.holdout_fraction=0.3.',
    )
  size = config.data.size
  if size < _SMALLEST_PICTURE:
    _refuse(
      'data.size',
      size,
      f'{_SMALLEST_PICTURE} pixels or more',
      'Set it with --config.data.size=224.',
    )
  for node in ('attack', 'pirm.poison'):
    path = f'{node}.trigger_size'
    if _field(config, path) >= size:
      _refuse(
        path,
        _field(config, path),
        f'less than config.data.size, {size}',
        f'Set it with --config.{path}=30.',
      )


def check_pirm(config: ConfigDict) -> None:
  """Checks where the PIRM comes from.

  Raises:
    UserError: there is no such file, or no pictures to train on.
  """
  where, root = config.pirm.checkpoint, config.pirm.root
  if where == 'train' and not root:
    _refuse(
      'pirm.root',
      root,
      "a folder of natural images, as config.pirm.checkpoint is 'train'",
      'Set it with --config.pirm.root=DIR, or use the PIRM that comes with the '
      "project: --config.pirm.checkpoint='shipped'.",
    )
  if where not in ('train', 'shipped') and not pathlib.Path(where).is_file():
    _refuse(
      'pirm.checkpoint',
      where,
      "'shipped', 'train', or a file that launch.pirm wrote",
      'Set it with --config.pirm.checkpoint=...',
    )


def as_json(config: ConfigDict) -> str:
  """The config as it is written to `config.json`."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True) + '\n'


def check_workdir(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Refuses a working folder that holds the results of another config.

  Raises:
    UserError: it does; the message names the first field that differs.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return
  found = path.read_text('utf-8')
  if found == as_json(config):
    return
  there, here = next(
    (a, b)
    for a, b in itertools.zip_longest(
      found.split('\n'), as_json(config).split('\n'), fillvalue='nothing'
    )
    if a != b
  )
  raise errors.UserError(
    f'--workdir: {workdir} belongs to another config (there {there.strip()} '
    f'here {here.strip()}); expected the same config or a new folder. Choose '
    'another --workdir; what both runs share is reused all the same.'
  )


def write_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Writes `config.json`."""
  files.write_text(workdir / 'config.json', as_json(config))
