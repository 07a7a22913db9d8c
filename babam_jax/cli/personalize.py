"""Makes a PIRM of one's own, which no attacker has.

  python -m launch.pirm personalize --root=photos/ --output=mine.npz

It begins with the general PIRM's weights, but for its first filters, and
learns from your photographs (500 or more, of 128 pixels a side or more; never
the pictures to be judged), with poison that a secret key draws. Some fifteen
minutes on two cores. After a kill, the same command continues. Then:
`python -m launch.sanitize --pirm=mine.npz`.

While it works, a folder beside the output holds the key, for your eyes only; it
is removed in the end, and the output does not tell it.
"""

import pathlib
import secrets
import shutil
from collections.abc import Sequence

from absl import flags

from babam_jax import errors, files
from babam_jax.cli import command
from babam_jax.config import rules, schema
from babam_jax.defenses import pirm
from babam_jax.evaluation import table
from babam_jax.pirm_training import personal, pirm_stages
from babam_jax.runs.alone import alone_in
from babam_jax.settings import WHOLE_LIMIT
from babam_jax.store import artifacts, lab

_ROOT = flags.DEFINE_string('root', None, 'A folder of photographs.')
_OUTPUT = flags.DEFINE_string('output', 'mine.npz', 'The file to write.')
_START = flags.DEFINE_string(
  'start_from', 'general', 'The PIRM to begin with, by name or file.'
)
_KEY = 'key.json'
_ONLY_OWNER = 0o700
# What the output tells of its training.
_TOLD = ('training_pictures', 'holdout')


def main(arguments: Sequence[str]) -> None:
  """Trains, saves, tells the rates."""
  if arguments:
    raise errors.UserError(
      f'command line: unexpected {arguments[0]!r}; expected --flag=value only.'
    )
  if not _ROOT.value:
    raise errors.UserError(
      '--root: is missing; expected a folder of photographs, to learn from. '
      'Give one with --root=DIR.'
    )
  root, output = files.named(_ROOT.value), files.named(_OUTPUT.value)
  check_plan(root, 0)
  folder = output.absolute().with_name(f'.{output.name}.unfinished')
  with alone_in(folder):
    folder.chmod(_ONLY_OWNER)
    experiment = check_plan(root, _key(folder))
    store = artifacts.Store(folder / 'artifacts')
    model, _ = pirm_stages.train_pirm(lab.Lab(experiment, store, folder))
    meta = {name: model.meta[name] for name in _TOLD}
    meta['holdout'] = dict(meta['holdout'])
    del meta['holdout']['kinds']
    pirm.save(model._replace(meta=meta), output)
  shutil.rmtree(folder)
  lines = table.pirm_rows({'pirm': {'held_out': meta['holdout']}})
  print(table.as_text(table.PIRM_HEADER, lines))
  print(f'{output}: keep it to yourself')


def check_plan(root: pathlib.Path, key: int) -> schema.Experiment:
  """The experiment, before anything is made.

  Raises:
    UserError: the folder or the PIRM to begin with cannot be used.
  """
  if not root.is_dir():
    raise errors.UserError(
      f'--root: no folder {str(root)!r}; expected a folder of photographs. '
      'Choose another one.'
    )
  experiment = rules.check(personal.config(str(root), _START.value, key))
  experiment.pirm.check(experiment.data.size)
  return experiment


def _key(folder: pathlib.Path) -> int:
  """The key of an earlier call that was killed, or a new one."""
  path = folder / _KEY
  if not path.exists():
    files.write_json(path, secrets.randbelow(WHOLE_LIMIT))
  return files.read_json(path)


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run_tool(main)
