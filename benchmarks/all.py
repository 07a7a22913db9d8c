"""Runs all benchmarks; writes `results/benchmarks.json` and a table.

  python -m benchmarks.all --peer=PYTHON

`--peer` is a Python with torch, torchvision and ART; without it no peers run.
It takes about an hour on two cores; nothing else should run meanwhile.
`--only=...` repeats some benchmarks and keeps the results of the others.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

from absl import app, flags

from babam_jax import files
from babam_jax.progress import say

_PEER = flags.DEFINE_string('peer', None, 'A Python with torch and ART.')
_ONLY = flags.DEFINE_list('only', [], 'The benchmarks to run; default: all.')
_NAMES = (
  'crafting',
  'layers',
  'convergence',
  'scoring',
  'networks',
  'resnet_step',
  'noise',
  'defense_cost',
  'experiment_growth',
  'sanitizing',
  'startup',
  'settings',
  'memory',
)
_WITH_PEERS = ('crafting', 'scoring', 'networks')
_RESULTS = pathlib.Path('results')


def run(name: str) -> dict[str, Any] | None:
  """One benchmark, in a process of its own; None if it fails."""
  command = [sys.executable, '-m', f'benchmarks.{name}']
  if name in _WITH_PEERS and _PEER.value:
    command.append(f'--peer={_PEER.value}')
  say(f'{name}: running')
  ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
  if ran.returncode:
    say(f'{name}: failed, left out')
    return None
  return json.loads(ran.stdout.strip().splitlines()[-1])


def rows(name: str, figures: Any, path: tuple[str, ...] = ()) -> list[str]:
  """The leaves of a benchmark's figures as rows of a table."""
  if isinstance(figures, dict) and not {'median', 'least'} <= figures.keys():
    return [
      row
      for key, value in figures.items()
      for row in rows(name, value, (*path, key))
    ]
  if isinstance(figures, dict):
    figures = ' '.join(
      f'{k} {v["median"] if isinstance(v, dict) else v}'
      for k, v in figures.items()
    )
  return [f'| {name} | {" / ".join(path)} | {figures} |']


def table(found: dict[str, dict[str, Any]]) -> str:
  """All figures as Markdown."""
  lines = ['# Speed', '']
  lines += ['By `python -m benchmarks.all --peer=PYTHON`, on:', '']
  surroundings = next(iter(found.values()))['environment']
  lines += [f'* {k}: {v}' for k, v in surroundings.items() if k != 'command']
  lines += ['', '| benchmark | what | figure |', '|---|---|---|']
  for name, record in found.items():
    about = ('benchmark', 'environment')
    shown = {k: v for k, v in record.items() if k not in about}
    lines += rows(name, shown)
  return '\n'.join(lines) + '\n'


def main(argv) -> None:
  """Runs the benchmarks, and writes the results."""
  del argv
  path = _RESULTS / 'benchmarks.json'
  found = files.read_json(path) if path.exists() else {}
  for name in _ONLY.value or _NAMES:
    record = run(name)
    if record is None:
      continue
    found[name] = record
    files.write_json(path, found)
    files.write_text(_RESULTS / 'benchmarks.md', table(found))


if __name__ == '__main__':
  app.run(main)
