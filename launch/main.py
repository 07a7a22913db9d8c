"""`python -m launch.main`: see `babam_jax/cli/run.py`."""

import sys

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.start('run', sys.argv)
