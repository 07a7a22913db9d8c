"""`python -m launch.report`: see `babam_jax/cli/report.py`."""

from babam_jax.cli import command, report

if __name__ == '__main__':
  command.run_tool(report.main)
