"""Trains a PIRM on natural images and saves it as one file.

  python -m launch.pirm --config=configs/pirm_natural.py \
    --config.pirm.root=DIR --output=pirm.npz

The working folder receives a page with its rates on pictures held out, and with
its training curves (Figure 7 of the paper).
"""

import pathlib

from absl import flags

from babam_jax import files, invocation
from babam_jax.cli import command
from babam_jax.config import rules
from babam_jax.defenses import pirm
from babam_jax.evaluation import figures, report, table
from babam_jax.experiment import environment
from babam_jax.pirm_training import pirm_stages
from babam_jax.store import artifacts, lab

_OUTPUT = flags.DEFINE_string('output', 'pirm.npz', 'The file to write.')


def main(config, workdir: pathlib.Path, root: pathlib.Path) -> None:
  """Trains, saves, and reports its rates on the pictures held out."""
  experiment = rules.check(config)
  experiment.pirm.check(experiment.data.size)
  rules.check_workdir(workdir, config)
  laboratory = lab.Lab(experiment, artifacts.Store(root), workdir)
  model, artifact = pirm_stages.train_pirm(laboratory)
  rules.write_config(workdir, config)
  files.write_json(workdir / 'stages.json', laboratory.store.account())
  pirm.save(model, files.named(_OUTPUT.value))

  held_out = model.meta['holdout']
  lines = table.pirm_rows({'pirm': {'held_out': held_out}})
  section = report.Section(
    f'{config.pirm.variant}: {model.meta["training_pictures"]} pictures',
    table.PIRM_HEADER,
    lines,
    {
      'training': figures.first_epoch(artifact.json('history')),
      'reliability': figures.reliability(held_out['reliability']),
    },
    'Judged on half of the pictures held out, at the threshold of the config; '
    'the other half calibrated its scores. Mean distance between score '
    f'and truth: {held_out["calibration_error"]:.4f}. Below: both, in bins, '
    'with the number of pictures.',
    {
      'training': 'The first epoch: the loss falls as it learns.',
      'reliability': 'Scores beside the share of poison among pictures that '
      'have them: on the diagonal, a score is a probability.',
    },
  )
  kinds = report.Section(
    'Which poison it finds',
    ('kind', 'pictures', 'TPR %'),
    [
      (kind['kind'], str(kind['pictures']), f'{100 * kind["tpr"]:.1f}')
      for kind in held_out['kinds']
    ],
    {},
    'All poison held out, at a false-positive rate of 1 % on clean pictures '
    'held out.',
  )
  report.write_sections(
    workdir / 'report.html',
    'The poison image recognition model',
    [section, kinds],
    environment.describe(command.repeat_line(invocation.line('pirm'))),
    workdir / 'figures',
  )
  print(table.as_text(table.PIRM_HEADER, lines))
  print(table.as_text(kinds.header, kinds.lines))
  print(f'{_OUTPUT.value}; report: {workdir / "report.html"}')


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run(main)
