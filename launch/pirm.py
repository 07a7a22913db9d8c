"""Trains a PIRM on natural images and saves it as one file.

  python -m launch.pirm --config=configs/pirm_natural.py \
    --config.pirm.root=DIR --output=pirm.npz
"""

import pathlib

from absl import flags

from babam_jax.defense import pirm
from babam_jax.experiment import (
  artifacts,
  config_check,
  lab,
  pirm_stages,
)
from launch import command

_OUTPUT = flags.DEFINE_string('output', 'pirm.npz', 'The file to write.')


def main(config, workdir: pathlib.Path, root: pathlib.Path) -> None:
  """Trains, saves, and prints what it reached on the pictures held out."""
  config_check.check(config)
  config_check.check_pirm_training(config)
  laboratory = lab.Lab(config, artifacts.Store(root), workdir)
  model, _ = pirm_stages.train_pirm(laboratory)
  pirm.save(model, pathlib.Path(_OUTPUT.value))
  print(_OUTPUT.value, model.meta['holdout'])


if __name__ == '__main__':
  command.run(main)
