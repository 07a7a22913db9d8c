"""`python -m launch.pirm`: see `babam_jax/cli/pirm.py`."""

from babam_jax.cli import command, pirm

if __name__ == '__main__':
  command.run(pirm.main)
