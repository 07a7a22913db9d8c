"""Stages: what each reads of the config, and so what its result depends on.

A stage can read only the fields that it has declared, so whatever it reads is
in the key of its result. The planner of sweeps asks the stages what two runs
share.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from babam_jax import settings

# `-` before a field: it may be read, but makes no difference to the result.
_IGNORED = '-'


class UndeclaredReadError(AttributeError):
  """A stage has read a field of the config that it does not declare."""


class View:
  """An experiment of which only some fields can be read.

  Args:
    node: the experiment, or a part of it.
    reads: the fields that can be read, as paths; a path allows all below it.
    path: the path of `node`, with a dot at its end; '' for the experiment.
    on_read: called with the path of each field that is read.
  """

  def __init__(
    self,
    node: Any,
    reads: tuple[str, ...],
    path: str = '',
    on_read: Callable[[str], None] = lambda path: None,
  ):
    self._node, self._reads, self._path = node, reads, path
    self._on_read = on_read

  @property
  def __class__(self) -> type:
    """That of the node: who checks types takes the view for it."""
    return type(self._node)

  def __getattr__(self, name: str) -> Any:
    """The value of a declared field; for a node, a view."""
    here = f'{self._path}{name}'
    value = getattr(self._node, name)
    if any(here == r or here.startswith(f'{r}.') for r in self._reads):
      self._on_read(here)
      return value
    if any(read.startswith(f'{here}.') for read in self._reads):
      return View(value, self._reads, f'{here}.', self._on_read)
    raise UndeclaredReadError(
      f'config.{here} is read by a stage that declares {self._reads}.'
    )


@dataclasses.dataclass(frozen=True)
class Stage:
  """One step of an experiment whose result is kept.

  Attributes:
    name: its name in the store; a slash divides the kind from what it is for.
    version: raised when the code changes the result.
    reads: the fields of the experiment that it reads, `('attack.method',
      'seed')`; with '-' in front, fields that make no difference to it.
    after: the stages whose results it is made from, given the experiment.
    chooses: the fields that choose its files, as a folder does. They are not in
      its key, which has the files' fingerprints; planners have no others.
  """

  name: str
  version: int
  reads: tuple[str, ...]
  after: Callable[[Any], tuple['Stage', ...]] = lambda experiment: ()
  chooses: tuple[str, ...] = ()

  def view(
    self, experiment: Any, on_read: Callable[[str], None] = lambda path: None
  ) -> Any:
    """The experiment as this stage may see it."""
    allowed = tuple(read.removeprefix(_IGNORED) for read in self.reads)
    return cast(type(experiment), View(experiment, allowed, on_read=on_read))

  def values(self, experiment: Any, later: bool = False) -> dict[str, Any]:
    """The fields that its own result depends on, by path, as JSON has them.

    Args:
      experiment: the whole experiment.
      later: include settings in `decided_later`, which change only what comes
        after this stage.
    """
    found: dict[str, Any] = {}
    for read in self.reads:
      if not read.startswith(_IGNORED):
        for path, value in _leaves(_get(experiment, read), read, later):
          if self._counts(path):
            found[path] = value
    return found

  def _counts(self, path: str) -> bool:
    """Whether a field makes a difference, by the longest of the paths in
    `reads` that lead to it."""
    holding = [
      read
      for read in self.reads
      if f'{path}.'.startswith(f'{read.removeprefix(_IGNORED)}.')
    ]
    longest = max(holding, key=lambda read: len(read.removeprefix(_IGNORED)))
    return not longest.startswith(_IGNORED)

  def ancestry(self, experiment: Any) -> Iterator['Stage']:
    """This stage, after all stages that its result is made from."""
    for stage in self.after(experiment):
      yield from stage.ancestry(experiment)
    yield self

  def result(self, experiment: Any) -> str:
    """All that its result depends on, also through its inputs: the same text
    means the same result."""
    found = {
      stage.name: [
        stage.version,
        stage.values(experiment, later=True),
        [_get(experiment, field) for field in stage.chooses],
      ]
      for stage in self.ancestry(experiment)
    }
    return json.dumps(found, sort_keys=True)


def _get(experiment: Any, path: str) -> Any:
  for name in path.split('.'):
    experiment = getattr(experiment, name)
  return experiment


def _leaves(value: Any, path: str, later: bool) -> Iterator[tuple[str, Any]]:
  """The values below a node, by path; for an exchangeable part, also which
  one it is."""
  if not dataclasses.is_dataclass(value):
    yield path, json.loads(json.dumps(value))
    return
  if hasattr(value, 'version'):
    yield f'{path}.is', [type(value).__name__, value.version]
  ignored = () if later else getattr(value, 'decided_later', ())
  for field, _ in settings.fields(value):
    if field.name not in ignored:
      here = f'{path}.{field.name}'
      yield from _leaves(getattr(value, field.name), here, later)
