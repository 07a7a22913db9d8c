"""`python -m launch.weights`: see `babam_jax/cli/weights.py`."""

from babam_jax.cli import command, weights

if __name__ == '__main__':
  command.run_tool(weights.main)
