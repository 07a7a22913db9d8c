"""The fields that all experiments share, with their defaults.

What each means and takes is beside the code that uses it; all of them together
are in `babam_jax/config/schema.py`.
"""

from babam_jax.config import schema


def get_config():
  return schema.default_config()
