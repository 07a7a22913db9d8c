"""Collects finished runs and studies into one table each, and one page.

  python -m launch.report --runs=DIR

Writes `DIR/report.html` and `DIR/report.md`. A study with runs missing is not
shown: a half-filled table misleads. The missing runs are named, and the exit
status is 2.
"""

import shlex
from collections.abc import Sequence

from absl import flags

from babam_jax import errors, files, invocation
from babam_jax.cli import command
from babam_jax.runs import collection

_RUNS = flags.DEFINE_string('runs', None, 'A folder of working folders.')


def main(arguments: Sequence[str]) -> None:
  """Writes the page of all runs."""
  del arguments
  if not _RUNS.value:
    raise errors.UserError(
      '--runs: is missing; expected a folder of working folders. Give one with '
      '--runs=DIR.'
    )
  folder = files.named(_RUNS.value)
  line = f'{invocation.line("report")} {shlex.quote(f"--runs={folder}")}'
  absent = collection.write_page(folder, line)
  print(f'report: {folder / "report.html"}')
  if absent:
    raise errors.UserError(
      f'--runs: {len(absent)} are left out: '
      f'{"; ".join(f"{path} {why}" for path, why in absent)}. Give their '
      'commands again; what is done is kept.'
    )


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run_tool(main)
