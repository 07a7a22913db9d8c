"""`python -m launch.artifacts`: see `babam_jax/cli/artifacts.py`."""

import sys

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.start('artifacts', sys.argv)
