"""Data parallelism: the only file that knows about devices and processes.

Several processes, on several hosts, run the same program on the same data; each
drives its own devices, and computes its part of the rows. They exchange only
what `unshard` gathers and what mapped functions sum.

`jax.pmap` is in maintenance mode but supported, and what the project's users
asked for; to move to `jax.shard_map`, change this file alone.
"""

import collections
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree, Shaped

from babam_jax import errors

AXIS = 'devices'
# A GPU computes while the host prepares the next batches; a CPU does both.
_BATCHES_AHEAD = 4


def join_processes(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Makes this process one of several that compute together.

  Call it before JAX first computes. Without arguments the processes are the
  tasks of the SLURM step; each then takes one GPU.

  Args:
    coordinator: `host:port`, where process 0 listens.
    num_processes: the number of processes.
    process_id: the number of this one, from 0.

  Raises:
    UserError: the processes do not connect to each other.
  """
  try:
    jax.distributed.initialize(coordinator, num_processes, process_id)
  except (RuntimeError, ValueError) as error:
    raise errors.UserError(
      f'--distributed: the processes do not connect ({error}); expected '
      'a SLURM step of several tasks, or --coordinator=HOST:PORT, '
      '--num_processes and --process_id on the command line of each.'
    ) from None


def num_processes() -> int:
  """The number of processes that compute together."""
  return jax.process_count()


def process_id() -> int:
  """The number of this process, from 0. Only process 0 writes results."""
  return jax.process_index()


def wait_for_all(where: str) -> None:
  """Returns when all processes have called it.

  Args:
    where: a name, the same in all; for the error if one never calls it.
  """
  if num_processes() > 1:
    multihost_utils.sync_global_devices(where)


def first_says(yes: bool) -> bool:
  """Returns the first process's answer in all processes."""
  return bool(from_first(np.array(yes)))


def from_first(tree: PyTree) -> PyTree:
  """Returns the first process's arrays in all processes."""
  if num_processes() == 1:
    return tree
  return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def num_devices() -> int:
  """The number of devices of all processes together."""
  return jax.device_count()


def is_on_cpu() -> bool:
  """Whether this process computes on the CPU."""
  return jax.default_backend() == 'cpu'


def device_memory() -> int | None:
  """The bytes that a device lends to this process; None for a CPU, whose memory
  is the machine's."""
  if is_on_cpu():
    return None
  found = jax.local_devices()[0].memory_stats() or {}
  return found.get('bytes_limit')


def check_platform() -> None:
  """Checks that JAX can use the platform that the environment asks for.

  Raises:
    UserError: there is no such device here.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    asked = [
      f'{name}={os.environ[name]}'
      for name in ('JAX_PLATFORMS', 'JAX_PLATFORM_NAME')
      if os.environ.get(name)
    ]
    reason = ' '.join(str(error).split())[:200] or 'no such device was found'
    raise errors.UserError(
      f'{" ".join(asked) or "JAX"}: cannot compute ({reason}); expected a '
      "platform of this machine, such as cpu. Leave it out, or install JAX's "
      'package for it.'
    ) from None


def use_devices(count: int, field: str) -> None:
  """Limits this process to some GPUs, or treats the CPU as several devices.

  Call it before JAX first computes.

  Args:
    count: the number of devices.
    field: the setting that named it, for the error message.

  Raises:
    UserError: there are fewer devices.
  """
  jax.config.update('jax_num_cpu_devices', count)
  for name in ('CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES'):
    visible = os.environ.get(name)
    named = visible.split(',') if visible else list(map(str, range(count)))
    os.environ[name] = ','.join(named[:count])
  check_platform()
  if jax.local_device_count() != count:
    raise errors.UserError(
      f'{field}: found {jax.local_device_count()} devices, expected {count}. '
      'Ask for as '
      'many as there are, or leave it out.'
    )


def round_up(rows: int) -> int:
  """The least multiple of the device count that holds `rows`, at least 1."""
  return max(1, math.ceil(rows / num_devices())) * num_devices()


def even_batches(rows: int, largest: int) -> list[np.ndarray]:
  """Divides `range(rows)` into batches of nearly equal size.

  All batches can then be padded to one shape with few wasted rows.
  """
  return np.array_split(np.arange(rows), max(1, math.ceil(rows / largest)))


def pad_rows(
  x: Shaped[np.ndarray, ' n *d'], rows: int
) -> Shaped[np.ndarray, ' m *d']:
  """Repeats the first row until there are `rows`; callers mask or drop it."""
  if len(x) == rows:
    return x
  return np.concatenate(
    [x, np.broadcast_to(x[:1], (rows - len(x), *x.shape[1:]))]
  )


@functools.cache
def _sharding(*axes: str) -> NamedSharding:
  """The sharding that pmap expects; others it would convert in each call."""
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return NamedSharding(mesh, PartitionSpec(*axes))


def replicate(tree: PyTree) -> PyTree:
  """Puts arrays on every device, once for many steps."""
  return jax.device_put(tree, _sharding())


def shard(tree: PyTree[np.ndarray], axis: int = 0) -> PyTree[Array]:
  """Splits the rows among the devices; a process keeps those of its devices.

  Args:
    tree: arrays [n, ...], all of which are put at once: for each by itself, a
      small step of training would wait as long as it computes.
    axis: the axis of the rows; 1 for the batches [s, n, ...] of several steps.

  Returns:
    Arrays [devices, m, ...], or [devices, s, m, ...].

  Raises:
    ValueError: the rows do not divide evenly (pmap would silently leave
      devices out).
  """
  here = jax.local_device_count()
  first = process_id() * here

  def of_devices(x: np.ndarray) -> np.ndarray:
    per_device, rest = divmod(x.shape[axis], num_devices())
    if rest or not per_device:
      raise ValueError(
        f'{x.shape[axis]} rows do not divide among {num_devices()} devices.'
      )
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    split = x.reshape(*before, num_devices(), per_device, *after)
    return np.moveaxis(split, axis, 0)[first : first + here]

  return jax.device_put(jax.tree.map(of_devices, tree), _sharding(AXIS))


def shard_padded(
  x: Shaped[np.ndarray, ' n *d'], rows: int
) -> tuple[Shaped[Array, 'devices m *d'], Shaped[Array, 'devices m']]:
  """Pads to `rows` and shards, with weights: 1 for rows, 0 for padding."""
  weights = np.zeros(rows, np.float32)
  weights[: len(x)] = 1
  return shard((pad_rows(x, rows), weights))


def unshard(
  x: Shaped[Array, 'devices m *d'],
) -> Shaped[np.ndarray, ' n *d']:
  """Gathers sharded rows in every process."""
  rows = np.asarray(x)
  if num_processes() > 1:
    rows = multihost_utils.process_allgather(rows, tiled=True)
  return rows.reshape(-1, *rows.shape[2:])


def row_numbers(rows_here: int) -> Int[Array, ' m']:
  """Inside a mapped function: this device's row numbers in the global batch."""
  return lax.axis_index(AXIS) * rows_here + jax.numpy.arange(rows_here)


def mapped(
  fn: Callable[..., Any], num_shared: int, num_sharded: int, donate: tuple = ()
) -> Callable[..., Any]:
  """`fn(shared..., rows...) -> rows`, over all devices.

  Args:
    fn: receives `num_shared` trees that are the same on every device, then
      `num_sharded` trees of rows; it returns rows only.
    num_shared: how many leading arguments are replicated.
    num_sharded: how many arguments follow, with a leading device axis.
    donate: the numbers of arguments whose memory the result may reuse.
  """
  in_axes = (None,) * num_shared + (0,) * num_sharded
  return jax.pmap(fn, AXIS, in_axes=in_axes, donate_argnums=donate)


def mapped_update(
  fn: Callable[..., Any], num_shared: int
) -> Callable[..., Any]:
  """`fn(state, shared..., rows) -> (state, metrics)`, replicated results.

  pmap does not check that replicas agree: `fn` must pmean or psum whatever it
  returns. The state's memory is reused.
  """
  in_axes = (None,) * (1 + num_shared) + (0,)
  return jax.pmap(fn, AXIS, in_axes=in_axes, out_axes=None, donate_argnums=0)


def map_batches(
  fn: Callable[..., Any],
  shared: PyTree,
  rows: tuple[Shaped[np.ndarray, ' n *_'], ...],
  batch_size: int,
  on_batch: Callable[[int], object] = lambda rows: None,
) -> Shaped[np.ndarray, ' n *_']:
  """Applies `fn(shared, *rows)` to batches of rows; keeps their order.

  Args:
    fn: a function made by `mapped(fn, 1, len(rows))`.
    shared: the argument that every device needs, parameters for instance.
    rows: arrays of equal length.
    batch_size: the largest number of rows at a time, over all devices.
    on_batch: called with the number of rows done, for progress bars.

  Raises:
    ValueError: there are no rows.
  """
  if not len(rows[0]):
    raise ValueError('There are no rows.')
  shared = replicate(shared)
  batches = even_batches(len(rows[0]), batch_size)
  size = round_up(len(batches[0]))
  ahead = 0 if device_memory() is None else _BATCHES_AHEAD
  begun, results = collections.deque(), []

  def finish() -> None:
    batch, result = begun.popleft()
    results.append(unshard(result)[: len(batch)])
    on_batch(len(batch))

  for batch in batches:
    here = slice(batch[0], batch[-1] + 1)
    sharded = shard(tuple(pad_rows(x[here], size) for x in rows))
    begun.append((batch, fn(shared, *sharded)))
    if len(begun) > ahead:
      finish()
  while begun:
    finish()
  return np.concatenate(results)
