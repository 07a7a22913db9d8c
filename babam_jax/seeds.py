"""One seed, many independent streams, each derived from it by name.

Each consumer names its stream, so a new one never changes another's numbers.
"""

import zlib

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from babam_jax import errors

LIMIT = 2**32  # JAX's seeds have 32 bits


def checked(seed: object, field: str = 'seed') -> int:
  """A seed as a plain number.

  Args:
    seed: what a user gave.
    field: what named it, for the error message.

  Raises:
    UserError: it is no whole number, or out of its range.
  """
  is_whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
  if not is_whole or not 0 <= seed < LIMIT:
    raise errors.UserError(
      f'{field}: found {seed!r}, expected a whole number, 0 or more, below '
      f'{LIMIT}.'
    )
  return int(seed)


def name_hash(name: str) -> int:
  """A 32-bit hash of `name` that is the same on every machine and run."""
  return zlib.crc32(name.encode('utf-8', 'surrogateescape'))


def jax_key(seed: int, name: str) -> Key[Array, '']:
  """The JAX key of the stream `name`."""
  return jax.random.fold_in(jax.random.key(checked(seed)), name_hash(name))


def numpy_rng(seed: int, name: str) -> np.random.Generator:
  """The NumPy generator of the stream `name`."""
  return np.random.default_rng([checked(seed), name_hash(name)])


def child_seed(seed: int, name: str) -> int:
  """Another seed, for a part with streams of its own."""
  return int(numpy_rng(seed, name).integers(2**31))


def id_hashes(ids: np.ndarray) -> UInt32[np.ndarray, ' n']:
  """One 32-bit hash per id, for keys that follow a picture, not its row."""
  return np.array([name_hash(str(i)) for i in ids], np.uint32)
