"""Lists, verifies and cleans an artifact store.

  python -m launch.artifacts ls [--runs=DIR]
  python -m launch.artifacts verify
  python -m launch.artifacts --runs=DIR gc [--delete]

`ls` lists the artifacts; with `--runs`, a folder of working folders, also in
how many of them each is used. `verify` compares every file with its checksum;
exit status 3 if one is damaged. `gc` names the artifacts that no finished run
below `--runs` needs, directly or through others, and what killed stages have
left; with `--delete` it removes them, except those that a run is making.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from babam_jax import errors, files
from babam_jax.cli import command
from babam_jax.evaluation import table
from babam_jax.progress import progress_bar
from babam_jax.store import keeping
from babam_jax.store.keeping import Kept

_RUNS = flags.DEFINE_string('runs', None, 'A folder of working folders.')
_DELETE = flags.DEFINE_bool('delete', False, 'gc: remove what it names.')
_HEADER = ('artifact', 'MB', 'seconds', 'made from', 'makes', 'used by runs')
_EXIT_DAMAGED = 3


def _uses(store: list[Kept]) -> dict[str, set[pathlib.Path]]:
  if not _RUNS.value:
    return {kept.key: set() for kept in store}
  return keeping.uses(files.named(_RUNS.value))


def _list(root: pathlib.Path) -> None:
  store = keeping.find(root)
  uses = _uses(store)
  lines = []
  for kept in store:
    made = sum(kept.key in other.inputs for other in store)
    runs = str(len(uses.get(kept.key, ()))) if _RUNS.value else '?'
    lines.append(
      (
        kept.folder.name,
        _megabytes(kept.size),
        f'{kept.seconds:.0f}',
        str(len(kept.inputs)),
        str(made),
        runs,
      )
    )
  print(table.as_text(_HEADER, lines))
  total = sum(kept.size for kept in store)
  print(f'{len(store)} artifacts, {_megabytes(total)} MB')
  for folder in keeping.leftovers(root):
    print(f'unfinished: {folder.name}')
  for stranger in keeping.strangers(root):
    print(stranger)


def _megabytes(size: int) -> str:
  return f'{size / 1e6:,.1f}'


def _verify(root: pathlib.Path) -> None:
  store = keeping.find(root)
  strangers = keeping.strangers(root)
  for stranger in strangers:
    print(stranger)
  damaged = len(strangers)
  with progress_bar(len(store), 'verifying', 'artifact') as bar:
    for kept in store:
      wrong = keeping.faults(kept)
      damaged += bool(wrong)
      for fault in wrong:
        print(f'{kept.folder}: {fault}')
      bar.update()
  print(f'{damaged} of {len(store) + len(strangers)} damaged')
  if damaged:
    sys.exit(_EXIT_DAMAGED)


def _collect(root: pathlib.Path) -> None:
  if not _RUNS.value:
    raise errors.UserError(
      '--runs: is missing; expected a folder with the working folders whose '
      'artifacts shall stay. Give one with --runs=DIR.'
    )
  store = keeping.find(root)
  uses = keeping.uses(files.named(_RUNS.value))
  needed = keeping.with_inputs(uses, store)
  idle = [kept.folder for kept in store if kept.key not in needed]
  sizes = {kept.folder: kept.size for kept in store}
  for folder in [*idle, *keeping.leftovers(root)]:
    size = _megabytes(sizes.get(folder, 0))
    if not _DELETE.value:
      print(f'not needed: {folder.name} ({size} MB)')
    elif keeping.remove(folder):
      print(f'removed: {folder.name} ({size} MB)')
    else:
      print(f'stays, a run is at work on it: {folder.name}')
  for stranger in keeping.strangers(root):
    print(f'stays: {stranger}')
  if not idle and not keeping.leftovers(root):
    print('Everything is needed.')


def main(arguments: Sequence[str]) -> None:
  """`ls`, `verify` or `gc`."""
  root = command.artifacts_folder()
  match list(arguments):
    case ['ls']:
      _list(root)
    case ['verify']:
      _verify(root)
    case ['gc']:
      _collect(root)
    case other:
      raise errors.UserError(
        f'command line: found {" ".join(other) or "nothing"!r}, expected '
        "'ls', 'verify' or 'gc'. See --help."
      )


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run_tool(main, ('artifacts',))
