"""`python -m launch.sweep`: see `babam_jax/cli/sweep.py`."""

import sys

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.start('sweep', sys.argv)
