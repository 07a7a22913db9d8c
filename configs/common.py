"""The fields that all experiments share, with their defaults.

Their meanings and ranges are beside the code that uses them; together they are
in `babam_jax/config/schema.py`.
"""

from babam_jax.config import schema


def get_config():
  return schema.default_config()
