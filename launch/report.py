"""`python -m launch.report`: see `babam_jax/cli/report.py`."""

import sys

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.start('report', sys.argv)
