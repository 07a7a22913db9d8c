"""Runs an experiment, a study of several, or one run of many.

  python -m launch.main --config=configs/orl_multiclass.py --workdir=DIR
  python -m launch.main --config=configs/paper/table2.py --workdir=DIR
  python -m launch.main --config=configs/paper/table2.py \
    --only=binary_LFW/seed_0 --workdir=DIR
"""

import pathlib

from absl import flags
from ml_collections import ConfigDict

from babam_jax import errors, invocation
from babam_jax.cli import command
from babam_jax.config import rules
from babam_jax.experiment import pipeline
from babam_jax.runs import plan, results
from babam_jax.runs.execute import Here, execute, repeat_line
from babam_jax.runs.plan import Run
from babam_jax.runs.tables import check_columns
from babam_jax.training import parallel

_ONLY = flags.DEFINE_string(
  'only', None, 'Run this run of a study or a sweep; --workdir is its own.'
)


def main(
  config: ConfigDict, workdir: pathlib.Path, artifacts: pathlib.Path
) -> None:
  """The experiment, from pictures to report."""
  line = command.repeat_line(invocation.line('run'))
  if _ONLY.value:
    runs = plan.of_file(command.config_file(), config, workdir)
    plan.check_given(config, command.given_fields(), runs)
    run = plan.named(_ONLY.value, runs)
    pipeline.run(run.config, workdir, artifacts, repeat_line(line, run))
  elif config.study.rows:
    _study(config, Here(workdir, artifacts, line))
  elif plan.has_sweep(command.config_file()):
    raise errors.UserError(
      f'--config: {command.config_file()} is a sweep; expected an experiment '
      f'or a study. Run it with {invocation.line("sweep")}, or one of its runs '
      'with --only=NAME.'
    )
  else:
    pipeline.run(command.experiment_config(), workdir, artifacts, line)
  print(f'report: {workdir / "report.html"}')


def _study(config: ConfigDict, here: Here) -> None:
  if parallel.num_processes() > 1:
    raise errors.UserError(
      '--num_processes: found a study, whose runs several processes cannot '
      'resume alike; expected one run. Name it with --only=NAME, or run the '
      f'study with {invocation.line("sweep")} --executor=slurm.'
    )
  runs = plan.of_study(config, here.workdir)
  rules.check_workdir(here.workdir, config)
  plan.check_given(config, command.given_fields(), runs)
  plan.check(runs)

  def after(run: Run) -> None:
    # The first run shows whether the data and the columns exist.
    check_columns(config.study, run)
    rules.write_config(here.workdir, config)

  execute(runs, here, after)
  results.publish_study(here.workdir, config, runs, here.command)


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run(main)
