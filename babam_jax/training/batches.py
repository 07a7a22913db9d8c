"""The order in which training sees its examples."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Shaped

from babam_jax import seeds

# Steps as small as those of a linear layer take less time than to ask a device
# for them; larger ones gain nothing, and their copies would take memory.
_BYTES_AT_ONCE = 1 << 20


class Batches(NamedTuple):
  """Row numbers of some steps; a ragged last batch is padded and masked.

  Attributes:
    rows: indices into the training set.
    weights: 1 for a real row, 0 for padding.
  """

  rows: Int[np.ndarray, 's b']
  weights: Float32[np.ndarray, 's b']


def num_batches(num_rows: int, batch_size: int) -> int:
  """Steps per epoch, the ragged last one included."""
  return -(-num_rows // batch_size)


def num_calls(
  inputs: Shaped[np.ndarray, ' n *d'], steps: int, batch_size: int
) -> int:
  """In how many calls of a device an epoch's steps are made.

  Args:
    inputs: the training set. Steps on pictures are one call each: in a loop, a
      CPU's convolutions are many times slower.
    steps: those of an epoch.
    batch_size: rows per step.
  """
  if inputs.ndim > 2:
    return steps
  size = inputs[:1].nbytes * batch_size
  return math.ceil(steps / max(1, _BYTES_AT_ONCE // size))


def epoch_batches(
  units: Int[np.ndarray, 'u k'],
  batch_size: int,
  padded_size: int,
  seed: int,
  epoch: int,
  calls: int,
) -> Iterator[Batches]:
  """One pass over all units in an order that depends on seed and epoch only.

  Args:
    units: rows of the training set; the k rows of a unit stay together.
    batch_size: real rows per batch; the last batch may have fewer.
    padded_size: rows per batch with padding, the same for all batches.
    seed: the seed of this training run.
    epoch: the number of the pass.
    calls: in how many parts of nearly equal length the steps come.
  """
  order = seeds.numpy_rng(seed, f'epoch/{epoch}').permutation(len(units))
  order = units[order].ravel()
  steps = num_batches(len(order), batch_size)
  place = np.arange(padded_size)
  number = np.arange(steps)[:, None] * batch_size + place
  real = (place < batch_size) & (number < len(order))
  rows = np.where(real, order[np.minimum(number, len(order) - 1)], 0)
  for part in np.array_split(np.arange(steps), calls):
    yield Batches(rows[part], real[part].astype(np.float32))
