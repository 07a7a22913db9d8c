"""A real SLURM on this machine's loopback, for tests; root can start it.

  python tests/slurm_cluster.py DIR COMMAND...

It starts munge, the controller and one node in DIR, runs a command there, and
takes them down. Debian: `apt-get install slurm-wlm munge`.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

_PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun')
_START_SECONDS = 60


def why_not() -> str:
  """Why there can be none here; '' if there can."""
  missing = [name for name in _PROGRAMS if not shutil.which(name)]
  if missing:
    return f'no {missing[0]}: apt-get install slurm-wlm munge'
  return '' if os.geteuid() == 0 else 'only root can start SLURM'


def _free_ports(count: int) -> list[int]:
  sockets = [socket.socket() for _ in range(count)]
  for one in sockets:
    one.bind(('127.0.0.1', 0))
  ports = [one.getsockname()[1] for one in sockets]
  for one in sockets:
    one.close()
  return ports


def _config(folder: pathlib.Path, cpus: int) -> str:
  controller, node = _free_ports(2)
  host = socket.gethostname()
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2**20
  # cred_expire is also how long a requeued job waits before it starts.
  return f"""
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} \
RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def cluster(folder: pathlib.Path, cpus: int):
  """Yields the environment variables that make SLURM's commands use it.

  Args:
    folder: for its state and logs; sockets need a short path.
    cpus: that it believes to have.
  """
  for name in ('', 'state', 'spool'):
    (folder / name).mkdir(parents=True, exist_ok=True)
  (folder / 'slurm.conf').write_text(_config(folder, cpus))
  (folder / 'munge.key').write_bytes(os.urandom(128))
  (folder / 'munge.key').chmod(0o600)
  env = os.environ | {'SLURM_CONF': str(folder / 'slurm.conf')}
  munge = [
    'munged',
    '--foreground',
    '--force',
    f'--socket={folder}/munge.socket',
    f'--key-file={folder}/munge.key',
    f'--pid-file={folder}/munge.pid',
    f'--log-file={folder}/munge.log',
    f'--seed-file={folder}/munge.seed',
  ]
  running = []
  with open(folder / 'daemons.log', 'wb') as log:

    def start(*command):
      running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))

    try:
      start(*munge)
      _wait_until((folder / 'munge.socket').exists)
      start('slurmctld', '-D', '-c')
      start('slurmd', '-D', '-c')
      _wait_until(lambda: _is_idle(env))
      yield env
    finally:
      subprocess.run(['scancel', '--me'], env=env, stderr=log)
      for one in reversed(running):
        one.terminate()
        one.wait()


def _is_idle(env) -> bool:
  done = subprocess.run(
    ['sinfo', '--noheader', '--format=%T'],
    env=env,
    capture_output=True,
    text=True,
  )
  return done.stdout.strip() == 'idle'


def _wait_until(reached) -> None:
  deadline = time.monotonic() + _START_SECONDS
  while not reached():
    if time.monotonic() > deadline:
      raise TimeoutError('SLURM did not start; see its logs')
    time.sleep(0.1)


if __name__ == '__main__':
  with cluster(pathlib.Path(sys.argv[1]).absolute(), os.cpu_count() or 1) as e:
    sys.exit(subprocess.run(sys.argv[2:], env=e).returncode)
