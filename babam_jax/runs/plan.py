"""What a sweep will do: its jobs, what they share, how long it may take."""

import collections
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from babam_jax import errors
from babam_jax.config import rules
from babam_jax.store import keeping
from babam_jax.config.overrides import set_fields

Overrides = dict[str, Any]
# The stages that cost time, and the config fields that each depends on, through
# its inputs too. A field that begins with '-' makes no difference.
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


class Job(NamedTuple):
  """One run of a sweep.

  Attributes:
    name: what it sets, as the name of its folder.
    overrides: the fields that it sets.
    config: of this run.
    folder: its working folder.
  """

  name: str
  overrides: Overrides
  config: ConfigDict
  folder: pathlib.Path


def jobs(
  config: ConfigDict,
  sweep: Callable[[ConfigDict], Iterable[Overrides]],
  workdir: pathlib.Path,
) -> list[Job]:
  """The runs of a sweep, checked before any is started.

  Args:
    config: the experiment that all runs start from.
    sweep: yields what each of them sets.
    workdir: of the sweep; each run has a folder of its own in it.

  Raises:
    UserError: nothing is yielded, the same twice, or what cannot be set.
  """
  found = []
  yielded = sweep(ConfigDict(config))
  if not isinstance(yielded, Iterable):
    raise errors.UserError(
      f'sweep(): returns {yielded!r}; expected it to yield dicts of fields and '
      'their values. See configs/sweeps.'
    )
  for overrides in yielded:
    if not isinstance(overrides, dict) or not overrides:
      raise errors.UserError(
        f'sweep(): found {overrides!r}, expected dicts of fields and their '
        "values, as {'defense.epsilon': 0.01}. See configs/sweeps."
      )
    changed = set_fields(config, overrides, 'sweep()')
    rules.check(changed)
    rules.check_pirm(changed)
    rules.check_weights(changed)
    name = _name(overrides)
    found.append(Job(name, overrides, changed, workdir / name))
  names = collections.Counter(job.name for job in found)
  twice = [name for name, count in names.items() if count > 1]
  if twice or not found:
    raise errors.UserError(
      f'sweep(): found {f"{twice[0]} twice" if twice else "nothing"}; expected '
      'at least one run, each of which sets something else.'
    )
  return found


def _name(overrides: Overrides) -> str:
  text = '-'.join(f'{field}={value}' for field, value in overrides.items())
  return re.sub(r'[^A-Za-z0-9.=-]+', '_', text).strip('_.')


class Stage(NamedTuple):
  """A stage that some of the jobs need.

  Attributes:
    name: as in the artifact store.
    result: tells its results apart.
    jobs: the names of those that need this result.
  """

  name: str
  result: str
  jobs: tuple[str, ...]


def stages(planned: Sequence[Job]) -> list[Stage]:
  """Which costly stages there are to compute, and who needs each.

  Two jobs share a stage if no field that it depends on differs. That may count
  too many (nothing flagged: the protected model is the malicious one), and the
  store has the last word.
  """
  needed: dict[tuple[str, str], list[str]] = {}
  for job in planned:
    for name, fields in _STAGES.items():
      if _is_computed(name, job.config):
        result = _values(job.config, fields)
        needed.setdefault((name, result), []).append(job.name)
  return [Stage(*key, tuple(names)) for key, names in needed.items()]


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


def waves(planned: Sequence[Job]) -> list[list[Job]]:
  """Jobs that can run side by side without needing the same new stage, then
  all others.

  Each stage that several jobs share is computed in the first wave, by one of
  them: nobody waits on an accelerator for what another is computing.
  """
  shared = [stage for stage in stages(planned) if len(stage.jobs) > 1]
  taken: set[Stage] = set()
  first, rest = [], []
  for job in planned:
    mine = {stage for stage in shared if job.name in stage.jobs}
    if mine & taken:
      rest.append(job)
    else:
      first.append(job)
      taken |= mine
  return [wave for wave in (first, rest) if wave]


def estimate(
  needed: Sequence[Stage], store: pathlib.Path
) -> tuple[float | None, float | None]:
  """Seconds of the costly stages, with and without reuse.

  Args:
    needed: the stages of the sweep.
    store: artifacts of earlier runs: what a stage took there, on average, is
      what it is expected to take. What they hold already is not left out.

  Returns:
    None, None if a stage was never run.
  """
  took: dict[str, list[float]] = {}
  if store.is_dir():
    for kept in keeping.find(store):
      took.setdefault(kept.stage, []).append(kept.seconds)
  if not {stage.name for stage in needed} <= took.keys():
    return None, None
  mean = {name: float(np.mean(found)) for name, found in took.items()}
  once = sum(mean[stage.name] for stage in needed)
  each = sum(mean[stage.name] * len(stage.jobs) for stage in needed)
  return once, each
