"""`python -m launch.sweep`: see `babam_jax/cli/sweep.py`."""

from babam_jax.cli import command, sweep

if __name__ == '__main__':
  command.run_tool(sweep.main)
