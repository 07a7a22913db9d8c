"""Which stages of an experiment cost time, and what each depends on."""

import json
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

# The costly stages, and the config fields that each depends on, through its
# inputs too. A field that begins with '-' makes no difference.
_SCENE = ('data', 'scenario', 'seed', '-data.root')
_POISON = (*_SCENE, 'attack', '-attack.share')
_PIRM = (
  'pirm',
  'data.size',
  'seed',
  '-pirm.threshold',
  '-pirm.score_batch_size',
)
_MODEL = ('fr', '-fr.checkpoint_every')
_STAGES = {
  'pirm': _PIRM,
  'poison': _POISON,
  'model/clean': (*_SCENE, *_MODEL),
  'model/malicious': (*_SCENE, *_MODEL, 'attack'),
  'model/protected': (*_SCENE, *_MODEL, 'attack', 'pirm', 'defense'),
}


def costly(config: ConfigDict) -> dict[str, str]:
  """The costly stages of an experiment.

  Args:
    config: of the experiment.

  Returns:
    By the stage's name, as JSON, all that its result depends on: two
    experiments share a stage where this is the same.
  """
  return {
    name: _values(config, fields)
    for name, fields in _STAGES.items()
    if _is_computed(name, config)
  }


def _is_computed(stage: str, config: ConfigDict) -> bool:
  if stage == 'pirm':
    return config.pirm.checkpoint == 'train'
  kind, _, name = stage.partition('/')
  return kind != 'model' or name in config.models


def _values(config: ConfigDict, fields: Sequence[str]) -> str:
  without = [field[1:] for field in fields if field.startswith('-')]
  kept = {
    field: json.loads(json.dumps(_field(config, field)))
    for field in fields
    if not field.startswith('-')
  }
  for field in without:
    node, _, name = field.rpartition('.')
    kept.get(node, {}).pop(name, None)
  return json.dumps(kept, sort_keys=True)


def _field(config: ConfigDict, path: str) -> Any:
  value: Any = config
  for name in path.split('.'):
    value = value[name]
  return value.to_dict() if isinstance(value, ConfigDict) else value
