"""Batches of poison that are crafted side by side on the devices."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from babam_jax.attacks import pairing
from babam_jax.training import parallel

Pair = Callable[[Float[np.ndarray, 'n n']], Int[np.ndarray, ' n']]


class Batch:
  """What is known of a batch while it is crafted.

  Attributes:
    goals: features of the patched sources.
    pairs: for each target the number of its source.
    distance_start: squared feature distances before crafting.
    done: whether all its pictures have collided.
  """

  def __init__(
    self,
    features: Float[np.ndarray, 'n d'],
    goals: Float[np.ndarray, 'n d'],
    pair: Pair,
  ):
    self.goals = goals
    self.done = False
    self._pair = pair
    self.pair_up(features)
    self.distance_start = self.distances(features)

  def pair_up(self, features: Float[np.ndarray, 'n d']) -> None:
    """Pairs targets with sources by the targets' features."""
    self.pairs = self._pair(pairing.squared_distances(features, self.goals))

  def distances(
    self, features: Float[np.ndarray, 'n d']
  ) -> Float[np.ndarray, ' n']:
    """Squared distances of targets with these features to their sources."""
    return np.sum((features - self.goals[self.pairs]) ** 2, axis=1)


class Wave:
  """How rows of batches lie on the devices: batch after batch.

  Args:
    batches: the batches.
    rows: each batch is padded to this many.
    places: pad with batches to this many.
  """

  def __init__(self, batches: Sequence[Batch], rows: int, places: int):
    self._batches = batches
    self._rows = rows
    self.total = parallel.round_up(rows * places)

  def on_devices(
    self, parts: Iterable[np.ndarray]
  ) -> Shaped[Array, 'devices m *d']:
    """Puts the rows of each batch in their places."""
    padded = [parallel.pad_rows(part, self._rows) for part in parts]
    return parallel.shard(parallel.pad_rows(np.concatenate(padded), self.total))

  def by_batch(
    self, found: Shaped[Array, 'devices m *d']
  ) -> Iterator[tuple[Batch, np.ndarray]]:
    """Takes the rows of each batch back to the host."""
    values = parallel.unshard(found)
    for number, batch in enumerate(self._batches):
      yield batch, values[number * self._rows :][: len(batch.pairs)]

  def numbers(self) -> Int[Array, 'devices m']:
    """Each row's number in its batch."""
    numbers = np.arange(self._rows, dtype=np.int32)
    return parallel.shard(np.resize(numbers, self.total))

  def paired_goals(self) -> Float[Array, 'devices m d']:
    """The features that each row shall have."""
    return self.on_devices(batch.goals[batch.pairs] for batch in self._batches)

  def pair_up(self, features: Float[Array, 'devices m d']) -> None:
    """Pairs anew in those batches that are not done."""
    for batch, found in self.by_batch(features):
      if not batch.done:
        batch.pair_up(found)
