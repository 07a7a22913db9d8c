"""`python -m launch.sanitize`: see `babam_jax/cli/sanitize.py`."""

from babam_jax.cli import command, sanitize

if __name__ == '__main__':
  command.run_tool(sanitize.main)
