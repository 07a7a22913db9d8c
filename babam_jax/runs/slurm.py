"""SLURM, through submitit: the only file that knows it."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from babam_jax import errors, files
from babam_jax.runs.job import Job

_SUBMISSIONS = 'submissions.jsonl'
_JOBS = 'slurm'  # scripts, output
_TIMEOUTS = 1000  # after each the job continues where it was


def options() -> ConfigDict:
  """The options of SLURM, with its own names; unset ones have its defaults."""
  chosen = ConfigDict()
  chosen.partition = placeholder(str)
  chosen.account = placeholder(str)
  chosen.qos = placeholder(str)
  chosen.constraint = placeholder(str)
  chosen.exclude = placeholder(str)
  chosen.gres = placeholder(str)
  # Minutes; a job that needs more is requeued, and continues.
  chosen.time = 24 * 60
  # The job is signaled this many seconds before that.
  chosen.signal_delay_s = 90
  chosen.mem = placeholder(str)
  chosen.cpus_per_task = placeholder(int)
  chosen.gpus_per_node = placeholder(int)
  # With more than one, a run has several processes (jax.distributed).
  chosen.nodes = 1
  chosen.ntasks_per_node = 1
  # Jobs of an array that run at a time.
  chosen.array_parallelism = 256
  return chosen


def processes(chosen: ConfigDict) -> int:
  """The number of processes of each run."""
  return chosen.nodes * chosen.ntasks_per_node


def check() -> None:
  """Checks that this machine can submit jobs.

  Raises:
    UserError: it cannot.
  """
  if importlib.util.find_spec('submitit') is None:
    raise errors.missing_extra('--executor=slurm', 'slurm')
  missing = [
    name for name in ('sbatch', 'srun', 'squeue') if not shutil.which(name)
  ]
  if missing:
    raise errors.UserError(
      f'--executor=slurm: found no command {missing[0]!r}, expected a machine '
      'that can submit SLURM jobs. Log in to one, or give --executor=local.'
    )


def submit(
  workdir: pathlib.Path,
  waves: Sequence[dict[str, Job]],
  chosen: ConfigDict,
) -> dict[str, str]:
  """Submits job arrays, each after the end of the one before it.

  Args:
    workdir: the folder of the study or the sweep; or for logs alone.
    waves: groups of jobs, by name, that may run side by side.
    chosen: the fields of `options`.

  Returns:
    The SLURM job of each name.

  Raises:
    UserError: SLURM refuses them.
  """
  import submitit  # optional: only clusters need it

  ids: dict[str, str] = {}
  parameters = {
    name: value for name, value in chosen.to_dict().items() if value is not None
  }
  after: dict[str, Any] = {}
  for wave in waves:
    executor = submitit.SlurmExecutor(
      workdir / _JOBS, max_num_timeout=_TIMEOUTS
    )
    executor.update_parameters(
      job_name='babam_jax',
      stderr_to_stdout=True,
      additional_parameters={'requeue': True},
      # A process that waits for a dead one would wait forever.
      srun_args=['--kill-on-bad-exit=1'],
      **parameters,
      **after,
    )
    try:
      with executor.batch():
        submitted = {name: executor.submit(job) for name, job in wave.items()}
    except (submitit.core.utils.FailedJobError, OSError) as error:
      reason = str(error).strip().splitlines()[-1]
      raise errors.UserError(
        f'--slurm: sbatch refused the jobs ({reason}); expected a '
        'cluster that answers, and options that it knows. Ask it with sinfo, '
        'and change --slurm.partition and the like.'
      ) from None
    found = {name: job.job_id for name, job in submitted.items()}
    with open(workdir / _SUBMISSIONS, 'a') as file:
      file.write(json.dumps(found) + '\n')
    ids |= found
    # Also after a failure: then one of these computes what they share.
    array = next(iter(found.values())).partition('_')[0]
    after = {'dependency': f'afterany:{array}'}
  return ids


def submitted(workdir: pathlib.Path) -> dict[str, str]:
  """The latest SLURM job of each name."""
  found: dict[str, str] = {}
  for line in files.read_lines(workdir / _SUBMISSIONS):
    found |= {name: str(job) for name, job in line.items()}
  return found


def queued(jobs: Sequence[str]) -> dict[str, str]:
  """SLURM's state of those jobs that it still knows: 'PENDING', 'RUNNING'."""
  if not jobs or not shutil.which('squeue'):
    return {}
  done = subprocess.run(
    ['squeue', '--me', '--noheader', '--array', '--format=%i %T'],
    capture_output=True,
    text=True,
  )
  found = dict(line.split()[:2] for line in done.stdout.splitlines())
  return {job: found[job] for job in jobs if job in found}


def cancel(jobs: Sequence[str]) -> None:
  """Takes jobs out of the queue, and ends those that run."""
  if jobs:
    subprocess.run(['scancel', *jobs], check=True)
