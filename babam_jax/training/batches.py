"""The order in which training sees its examples."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from babam_jax import seeds


class Batch(NamedTuple):
  """Row numbers of one step; a ragged last batch is padded and masked.

  Attributes:
    rows: indices into the training set.
    weights: 1 for a real row, 0 for padding.
  """

  rows: Int[np.ndarray, ' b']
  weights: Float32[np.ndarray, ' b']


def num_batches(num_rows: int, batch_size: int) -> int:
  """Steps per epoch, the ragged last one included."""
  return -(-num_rows // batch_size)


def epoch_batches(
  units: Int[np.ndarray, 'u k'],
  batch_size: int,
  padded_size: int,
  seed: int,
  epoch: int,
) -> Iterator[Batch]:
  """One pass over all units in an order that depends on seed and epoch only.

  Args:
    units: rows of the training set; the k rows of a unit stay together.
    batch_size: real rows per batch; the last batch may have fewer.
    padded_size: rows per batch with padding, the same for all batches.
    seed: the seed of this training run.
    epoch: the number of the pass.
  """
  order = seeds.numpy_rng(seed, f'epoch/{epoch}').permutation(len(units))
  order = units[order].ravel()
  for start in range(0, len(order), batch_size):
    rows = order[start : start + batch_size]
    padding = np.zeros(padded_size - len(rows), rows.dtype)
    weights = np.zeros(padded_size, np.float32)
    weights[: len(rows)] = 1
    yield Batch(np.concatenate([rows, padding]), weights)
