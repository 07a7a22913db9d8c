"""`python -m launch.weights`: see `babam_jax/cli/weights.py`."""

import sys

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.start('weights', sys.argv)
