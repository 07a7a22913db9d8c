"""`python -m launch.artifacts`: see `babam_jax/cli/artifacts.py`."""

from babam_jax.cli import artifacts, command

if __name__ == '__main__':
  command.run_tool(artifacts.main)
