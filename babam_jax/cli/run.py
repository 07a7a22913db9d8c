"""Runs an experiment, or a study of several.

python -m launch.main --config=configs/orl_multiclass.py --workdir=DIR
"""

import pathlib

from ml_collections import ConfigDict

from babam_jax import invocation
from babam_jax.cli import command
from babam_jax.experiment import pipeline
from babam_jax.runs import study


def main(
  config: ConfigDict, workdir: pathlib.Path, artifacts: pathlib.Path
) -> None:
  """The experiment, from pictures to report."""
  run = study.run if config.study.rows else pipeline.run
  run(config, workdir, artifacts, command.repeat_line(invocation.line('run')))
  print(f'report: {workdir / "report.html"}')


def start() -> None:
  """The command, with what its command line says."""
  command.run(main)
