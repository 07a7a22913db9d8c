"""`python -m launch.pirm`: see `babam_jax/cli/pirm.py`."""

import sys

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.start('pirm', sys.argv)
