"""`python -m launch.sanitize`: see `babam_jax/cli/sanitize.py`."""

import sys

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.start('sanitize', sys.argv)
