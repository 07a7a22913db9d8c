"""`python -m babam_jax.cli`: the command `babam`, also where it has no path."""

from babam_jax.cli import verbs

if __name__ == '__main__':
  verbs.main()
