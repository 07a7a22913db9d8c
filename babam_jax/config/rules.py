"""Checks of a config before anything is computed or written."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from babam_jax import errors, files
from babam_jax.attacks import hidden_trigger, pairing
from babam_jax.config import overrides
from babam_jax.data import datasets
from babam_jax.defenses import babam, noise, pirm
from babam_jax.experiment import (
  attack_stages,
  flagging,
  hardening,
  input_checks,
)
from babam_jax.models import networks
from babam_jax.models.pretrained import weights
from babam_jax.training import optimizer, recognizer

_TASKS = ('multiclass', 'binary')
_MODELS = ('clean', 'malicious', 'protected')
_CRAFTING_CHOICES = {
  'model': tuple(networks.ARCHITECTURES),
  'pretrained': weights.PRETRAINED,
  'optimizer': tuple(hidden_trigger.OPTIMIZERS),
  'pairing': tuple(pairing.PAIRINGS),
}
_CHOICES = {
  'scenario.task': _TASKS,
  'fr.model': tuple(networks.ARCHITECTURES),
  'fr.pretrained': weights.PRETRAINED,
  'fr.frozen': recognizer.FROZEN,
  'fr.optimizer': optimizer.OPTIMIZERS,
  'pirm.variant': pirm.VARIANTS,
  'pirm.optimizer': optimizer.OPTIMIZERS,
  'attack.kind': tuple(attack_stages.KINDS),
  'defense.flags': ('pirm', 'oracle', 'victim', *flagging.DETECTORS),
  'defense.training': ('plain', *hardening.TRAININGS),
  'defense.repair': ('none', *hardening.REPAIRS),
  'defense.inputs': ('none', *input_checks.CHECKS),
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
  *(
    f'defense.{name}'
    for name in (
      'activation_clustering.dimensions',
      'deep_knn.neighbors',
      'strip.overlays',
      'strip.weight',
      'rap.eps',
      'rap.steps',
      'dp_instahide.ways',
      'rab.models',
      'rab.sigma',
      'smoothing.sigma',
      'smoothing.samples',
      'fine_pruning.epochs',
      'neural_cleanse.rounds',
      'neural_cleanse.batch_size',
      'neural_cleanse.epochs',
    )
  ),
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
  'attack.share',
  'attack.blend',
  'pirm.gray_fraction',
  'pirm.holdout_fraction',
  'pirm.threshold',
  'scenario.trusted_fraction',
  'defense.activation_clustering.largest_share',
  'defense.spectral_signatures.expected_share',
  'defense.strip.false_rejections',
  'defense.rap.false_rejections',
  'defense.fine_pruning.largest_drop',
  'defense.neural_cleanse.stamped_share',
)
# They need trusted pictures.
_TRUSTING = ('strip', 'rap', 'fine_pruning', 'neural_cleanse')
_FEATURE_NODES = ('attack', 'pirm.poison')  # where poison is made
_VGG16_CONVS = 13


def _field(config: ConfigDict, path: str) -> Any:
  for name in path.split('.'):
    config = config[name]
  return config


def _refuse(path: str, found: Any, expected: str, remedy: str = '') -> None:
  remedy = remedy or f'Set it with --config.{path}=...'
  raise errors.UserError(
    f'config.{path}: found {found!r}, expected {expected}. {remedy}'
  )


def _require(
  config: ConfigDict, path: str, good: Callable[[Any], bool], expected: str
) -> None:
  if not good(_field(config, path)):
    _refuse(path, _field(config, path), expected)


def check(config: ConfigDict) -> None:
  """Checks the fields that need no data.

  Raises:
    UserError: a field is out of its range; the message names it.
  """
  for path, choices in _CHOICES.items():
    expected = f'one of {", ".join(choices)}'
    _require(config, path, choices.__contains__, expected)
  for path in _POSITIVE:
    _require(config, path, lambda x: x > 0, 'a number above 0')
  for path in _FRACTIONS:
    _require(config, path, lambda x: 0 <= x <= 1, 'a fraction from 0 to 1')
  _require(config, 'data.name', datasets.is_known, f'one of {datasets.KNOWN}')
  _require(config, 'attack.share', lambda x: x > 0, 'a share above 0')
  _require(config, 'attack.retrainings', lambda x: x >= 0, '0 or more')
  _require(config, 'seed', lambda x: x >= 0, '0 or more')
  _require(
    config,
    'pirm.trainable_convs',
    lambda x: 0 <= x <= _VGG16_CONVS,
    f'0 to {_VGG16_CONVS}',
  )
  _require(
    config,
    'pirm.holdout_fraction',
    lambda x: 0 < x < 1,
    'a fraction between 0 and 1',
  )
  _require(
    config,
    'models',
    lambda x: x and set(x) <= set(_MODELS),
    f'some of {", ".join(_MODELS)}',
  )
  for node in _FEATURE_NODES:
    _check_crafting(config, node)
  _require(config, 'pirm.kinds', len, "one kind or more; '' sets nothing")
  _require(config, 'pirm.processed_copies', lambda x: x >= 0, '0 or more')
  _check_recognizer(config)
  _check_defense(config)


def _check_defense(config: ConfigDict) -> None:
  defense = config.defense
  chosen = (defense.flags, defense.repair, defense.inputs)
  trusting = [name for name in chosen if name in _TRUSTING]
  if trusting:
    _require(
      config,
      'scenario.trusted_fraction',
      lambda x: x > 0,
      f'a fraction above 0: {trusting[0]} needs trusted pictures',
    )
  if defense.training != 'plain':
    expected = "'none', as config.defense.training is not 'plain'"
    for field in ('defense.repair', 'defense.inputs'):
      _require(config, field, 'none'.__eq__, expected)
  if defense.repair != 'none':
    expected = "'none', as config.defense.repair is not"
    _require(config, 'defense.inputs', 'none'.__eq__, expected)
  if defense.repair == 'fine_pruning':
    expected = "'trunk' or 'all_but_last': the last convolution is pruned"
    _require(config, 'fr.frozen', lambda x: x != 'none', expected)


def _check_crafting(config: ConfigDict, node: str) -> None:
  size = config.data.size
  architecture = networks.ARCHITECTURES[_field(config, f'{node}.model')]
  _require(
    config,
    f'{node}.tap',
    architecture.taps.__contains__,
    f'one of {", ".join(architecture.taps)} for this model',
  )
  _require(
    config,
    f'{node}.eps',
    lambda x: x >= 1,
    'at least 1 gray level, as pictures are saved in 8 bits',
  )
  _require(
    config,
    f'{node}.trigger_size',
    lambda x: x < size,
    f'less than config.data.size, {size}',
  )
  for name in ('evade', 'noise_scale', 'smoothness'):
    path = f'{node}.adaptive.{name}'
    _require(config, path, lambda x: x >= 0, '0 or more')
  _check_picture_size(config, architecture)


def _check_picture_size(
  config: ConfigDict, architecture: networks.Architecture
) -> None:
  _require(
    config,
    'data.size',
    lambda x: x >= architecture.smallest,
    f'{architecture.smallest} pixels or more for this model',
  )


def _check_recognizer(config: ConfigDict) -> None:
  architecture = networks.ARCHITECTURES[config.fr.model]
  if not architecture.fixed_size:
    _check_picture_size(config, architecture)
  if config.fr.pretrained == 'full' and 'fc6' in architecture.taps:
    _require(
      config,
      'fr.width',
      lambda x: x == networks.WIDTH,
      f"{networks.WIDTH}, as config.fr.pretrained is 'full'",
    )


def check_weights(config: ConfigDict) -> None:
  """Checks that the pretrained weights are there.

  Raises:
    UserError: they are not; the message says how to get them.
  """
  for path in ('fr', 'attack'):
    _check_weights_of(config, path)


def _check_weights_of(config: ConfigDict, path: str) -> None:
  node = _field(config, path)
  weights.fingerprint(node.model, node.pretrained, f'config.{path}')


def check_pirm_training(config: ConfigDict) -> None:
  """Checks that a PIRM can be trained.

  Raises:
    UserError: there are no pictures to train on, or no weights to start from.
  """
  if not config.pirm.root:
    _refuse(
      'pirm.root',
      config.pirm.root,
      'a folder of natural images, to train the PIRM on',
      'Set it with --config.pirm.root=DIR, or use the PIRM that comes with the '
      "project: --config.pirm.checkpoint='shipped'.",
    )
  if round(config.pirm.num_poison * config.pirm.holdout_fraction) < 2:
    _refuse(
      'pirm.holdout_fraction',
      config.pirm.holdout_fraction,
      'at least two of config.pirm.num_poison pictures held out: one to '
      'calibrate the PIRM, one to measure it',
    )
  if config.pirm.paired and config.pirm.batch_size % 2:
    _refuse(
      'pirm.batch_size',
      config.pirm.batch_size,
      'an even number: with config.pirm.paired, pairs stay together',
    )
  for number, kind in enumerate(config.pirm.kinds):
    changed = overrides.override(config, '', '')
    changed.pirm.poison = overrides.override(
      config.pirm.poison, kind, f'config.pirm.kinds, {kind!r}'
    )
    changed.pirm.kinds = ('',)
    try:
      check(changed)
      _check_weights_of(changed, 'pirm.poison')
      _check_evaded(changed, 'pirm.poison')
    except errors.UserError as error:
      raise errors.UserError(
        f'config.pirm.kinds[{number}], {kind!r}: {error}'
      ) from None
  if config.pirm.variant == 'vgg16':
    weights.fingerprint('vgg16', 'trunk', 'config.pirm')


def check_pirm(config: ConfigDict) -> None:
  """Checks where the PIRM comes from.

  Raises:
    UserError: there is no such file, or one cannot be trained.
  """
  if config.pirm.checkpoint == 'train':
    check_pirm_training(config)
  else:
    where = config.pirm.checkpoint
    _check_pirm_file('pirm.checkpoint', where, "'train', ")
  for where in config.pirm.beside:
    _check_pirm_file('pirm.beside', where)
  _check_evaded(config, 'attack')


def _check_evaded(config: ConfigDict, node: str) -> None:
  adaptive = _field(config, node).adaptive
  if adaptive.evade:
    _check_pirm_file(f'{node}.adaptive.pirm', adaptive.pirm)
    for where in adaptive.beside:
      _check_pirm_file(f'{node}.adaptive.beside', where)


def _check_pirm_file(path: str, where: str, others: str = '') -> None:
  if not pirm.path_of(where).is_file():
    names = ', '.join(map(repr, pirm.SHIPPED))
    expected = f'{names}, {others}or a file that launch.pirm wrote'
    _refuse(path, where, expected)


def as_json(config: ConfigDict) -> str:
  """The config as it is written to `config.json`."""
  text = json.dumps(
    config.to_dict(), default=dataclasses.asdict, indent=2, sort_keys=True
  )
  return text + '\n'


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
