"""Which patched source does each target collide with?

All functions take the matrix of squared feature distances, [targets, sources],
and return for each target the number of its source.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Distances = Float[np.ndarray, 'n n']
Pairs = Int[np.ndarray, ' n']


def hungarian(distances: Distances) -> Pairs:
  """One to one, with the least total distance."""
  from scipy import optimize  # a fifth of a second, for those that pair

  return optimize.linear_sum_assignment(distances)[1]


def greedy(distances: Distances) -> Pairs:
  """One to one: the closest free pair again and again (Saha et al. 2020)."""
  pairs = np.empty(len(distances), np.int64)
  left = np.array(distances, np.float64)
  for _ in range(len(distances)):
    target, source = np.unravel_index(np.argmin(left), left.shape)
    pairs[target] = source
    left[target, :] = left[:, source] = np.inf
  return pairs


def reference(distances: Distances) -> Pairs:
  """The pairing of the released script, which is not one to one.

  It visits the n smallest entries of the matrix in ascending order; the last
  one for a target wins; a target without an entry keeps its own source.
  """
  count = len(distances)
  pairs = np.arange(count)
  for entry in np.argsort(distances, axis=None, kind='stable')[:count]:
    target, source = divmod(int(entry), count)
    pairs[target] = source
  return pairs


def fixed(distances: Distances) -> Pairs:
  """Target i with source i, whatever the distances."""
  return np.arange(len(distances))


PAIRINGS: dict[str, Callable[[Distances], Pairs]] = {
  'hungarian': hungarian,
  'greedy': greedy,
  'reference': reference,
  'fixed': fixed,
}


def squared_distances(
  a: Float[np.ndarray, 'n d'], b: Float[np.ndarray, 'm d']
) -> Float[np.ndarray, 'n m']:
  """Squared L2 distances between all rows of `a` and all rows of `b`."""
  squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :]
  return np.maximum(squares - 2 * a @ b.T, 0)
