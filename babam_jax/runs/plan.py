"""The plan of a study or a sweep: its runs, each an experiment of its own."""

import collections
import pathlib
import re
import runpy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from babam_jax import errors, files
from babam_jax.config import rows, rules
from babam_jax.config.overrides import set_fields, value_at, vary
from babam_jax.config.rows import Row
from babam_jax.runs import study_form

Sets = Mapping[str, Any]  # fields and their values


class Run(NamedTuple):
  """One run of a study or a sweep.

  Attributes:
    name: the path of its folder in that of the study or the sweep.
    folder: the folder of its results.
    config: the config of this run alone.
    sets: the fields in which it differs from other runs.
    row: the row of the table that it belongs to.
  """

  name: str
  folder: pathlib.Path
  config: ConfigDict
  sets: Sets
  row: Row


# --- What a config file plans ---


def has_sweep(path: pathlib.Path) -> bool:
  """Whether a config file has a function `sweep`."""
  return 'sweep' in runpy.run_path(str(path))


def of_file(
  path: pathlib.Path, config: ConfigDict, workdir: pathlib.Path
) -> list[Run]:
  """The runs of a config file: those of its `sweep`, or those of its study.

  Args:
    path: the config file.
    config: its config, with what the command line sets.
    workdir: each run has a folder of its own in it.

  Raises:
    UserError: it has neither or both, or they are malformed.
  """
  sweep = runpy.run_path(str(path)).get('sweep')
  if (sweep is None) == (not config.study.rows):
    raise errors.UserError(
      f'--config: {path} has {"no" if sweep is None else "a"} function '
      f'sweep(config), and {"no " if sweep is None else ""}rows in '
      'config.study; expected one of the two. Take one of configs/sweeps or '
      'configs/paper; a single experiment runs with launch.main.'
    )
  if sweep:
    return of_sweep(config, sweep, workdir)
  return of_study(config, workdir)


def check(runs: Sequence[Run]) -> None:
  """Checks all runs before any of them starts.

  Raises:
    UserError: a config is out of range, a PIRM or weights are not there.
  """
  for run in runs:
    rules.check_files(rules.check(run.config))


def check_given(
  config: ConfigDict, given: Collection[str], runs: Sequence[Run]
) -> None:
  """Checks that each field that the command line sets is of use in some run.

  Runs that choose another attack or defense have its options' defaults again.

  Args:
    config: the config that all runs start from.
    given: the fields that the command line sets, by path.
    runs: the runs.

  Raises:
    UserError: no run uses an option that was set.
  """
  for path in given:
    if not path.startswith(('attack.', 'defense.')):
      continue  # all others are of use in every run
    value = value_at(config, path)
    used = any(value_at(run.config, path) == value for run in runs)
    if not used and not any(path in run.sets for run in runs):
      raise errors.UserError(
        f'config.{path}: found {value!r}, expected an option that one of the '
        f'{len(runs)} runs uses: none does. Leave it out.'
      )


def named(name: str, runs: Sequence[Run]) -> Run:
  """The run of that name.

  Raises:
    UserError: there is none.
  """
  for run in runs:
    if run.name == name:
      return run
  raise errors.UserError(
    f'--only: found {name!r}, expected the name of a run, as '
    f'{runs[0].name!r}. See them all with launch.sweep --dry_run.'
  )


def missing(runs: Sequence[Run]) -> list[Run]:
  """The runs that have no results."""
  return [run for run in runs if not (run.folder / 'metrics.json').exists()]


# --- Sweeps ---


def of_sweep(
  config: ConfigDict,
  sweep: Callable[[ConfigDict], Iterable[Sets]],
  workdir: pathlib.Path,
) -> list[Run]:
  """The runs of a sweep; those that differ in their seed alone are one row.

  Args:
    config: the experiment that all runs start from.
    sweep: yields the fields that each run sets.
    workdir: the folder of the sweep.

  Raises:
    UserError: it yields nothing, the same twice, or what cannot be set.
  """
  found = []
  yielded = sweep(ConfigDict(config))
  if not isinstance(yielded, Iterable):
    raise errors.UserError(
      f'sweep(): returns {yielded!r}; expected it to yield dicts of fields and '
      'their values. See configs/sweeps.'
    )
  for sets in yielded:
    if not isinstance(sets, Mapping) or not sets:
      raise errors.UserError(
        f'sweep(): found {sets!r}, expected dicts of fields and their '
        "values, as {'defense.noise.epsilon': 0.01}. See configs/sweeps."
      )
    name = _sweep_name(sets)
    changed = vary(config, sets, 'sweep()')
    found.append(Run(name, workdir / name, changed, sets, _sweep_row(sets)))
  names = collections.Counter(run.name for run in found)
  twice = [name for name, count in names.items() if count > 1]
  if twice or not found:
    raise errors.UserError(
      f'sweep(): found {f"{twice[0]} twice" if twice else "nothing"}; expected '
      'at least one run, each of which sets something else.'
    )
  return found


def _sweep_name(sets: Sets) -> str:
  text = '-'.join(f'{field}={value}' for field, value in sets.items())
  return re.sub(r'[^A-Za-z0-9.=-]+', '_', text).strip('_.')


def _sweep_row(sets: Sets) -> Row:
  rest = {field: value for field, value in sets.items() if field != 'seed'}
  if len(rest) == 1:
    ((field, value),) = rest.items()
    return Row(str(value), rest, panel=field)
  return Row(rows.text(rest) or 'all seeds', rest)


# --- Studies ---


def of_study(config: ConfigDict, workdir: pathlib.Path) -> list[Run]:
  """The runs of a study, row by row.

  Args:
    config: the experiment that all runs start from, with `config.study`.
    workdir: the folder of the study.

  Raises:
    UserError: the study is malformed, a row or a repeat sets what cannot be
      set, or two rows share a folder.
  """
  alone = ConfigDict(config).copy_and_resolve_references()
  alone.study = ConfigDict({'rows': ()})
  found = []
  for row in study_form.read_rows(config):
    where = f'config.study.rows, {row.name!r}'
    for repeat in config.study.repeats:
      name = f'{rows.slug(row.name)}/{rows.slug(rows.text(repeat))}'.rstrip('/')
      # A repeat may set what only some rows use.
      repeated = set_fields(alone, repeat, 'config.study.repeats')
      each = vary(repeated, row.sets, where)
      sets = {**row.sets, **repeat}
      found.append(Run(name, workdir / name, each, sets, row))
  if len({run.folder for run in found}) < len(found):
    raise errors.UserError(
      'config.study.rows: two rows or repeats have the same name; expected '
      'labels that differ in letters, digits or dots. Rename one.'
    )
  return found


def stored_study(workdir: pathlib.Path) -> tuple[ConfigDict, list[Run]]:
  """The config and the runs of the study that a folder holds.

  Raises:
    UserError: its `config.json` is not one of a study, as it is now.
  """
  path = workdir / 'config.json'
  try:
    config = ConfigDict(_with_tuples(files.read_json(path)))
    return config, of_study(config, workdir)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
      f'{path}: is not the config of a study, or one of an earlier version '
      f'({error}). Run the study again, in a new folder.'
    ) from None


def _with_tuples(value: Any) -> Any:
  """JSON has lists where a config has tuples."""
  if isinstance(value, dict):
    return {name: _with_tuples(found) for name, found in value.items()}
  if isinstance(value, list):
    return tuple(map(_with_tuples, value))
  return value
