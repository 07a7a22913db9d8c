"""`python -m launch.main`: see `babam_jax/cli/run.py`."""

from babam_jax.cli import command, run

if __name__ == '__main__':
  command.run(run.main)
