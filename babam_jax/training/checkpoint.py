"""Training checkpoints: the only file that knows Orbax."""

import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from babam_jax import errors
from babam_jax.training import parallel


class Checkpoint(NamedTuple):
  """What is needed to continue a training run.

  Attributes:
    epoch: epochs that are done.
    state: parameters, batch statistics and optimizer state, on the host.
    history: the metrics of the epochs that are done.
  """

  epoch: int
  state: PyTree
  history: list[dict[str, float]]


class Checkpoints:
  """The checkpoints of one training run; the newest one is kept."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder.absolute()
    # Each process for itself, in a folder of its own.
    alone = ocp.options.MultiprocessingOptions(
      primary_host=parallel.process_id(),
      active_processes={parallel.process_id()},
      barrier_sync_key_prefix=f'process{parallel.process_id()}',
    )
    options = ocp.CheckpointManagerOptions(
      max_to_keep=1,
      multiprocessing_options=alone,
      create=False,
    )
    self._folder.mkdir(parents=True, exist_ok=True)
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *unused: Any) -> None:
    self._manager.close()

  def save(self, checkpoint: Checkpoint) -> None:
    """Saves in the background; a save that fails is raised by the next call.

    Raises:
      UserError: the disk cannot hold another checkpoint.
    """
    needed = sum(
      np.asarray(x).nbytes for x in jax.tree.leaves(checkpoint.state)
    )
    free = shutil.disk_usage(self._folder).free
    if free < 2 * needed:
      raise errors.UserError(
        f'{self._folder}: {free:,} bytes free, expected {2 * needed:,} for a '
        'checkpoint. Free some space, or choose another disk with '
        '--artifacts=DIR.'
      )
    self._manager.save(
      checkpoint.epoch,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(checkpoint.state),
        history=ocp.args.JsonSave(checkpoint.history),
      ),
    )

  def newest(self, like: PyTree) -> Checkpoint | None:
    """The newest complete checkpoint, or None.

    Args:
      like: a state of the right structure and shapes, host arrays.
    """
    epoch = self._manager.latest_step()
    if epoch is None:
      return None
    restored = self._manager.restore(
      epoch,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(like),
        history=ocp.args.JsonRestore(),
      ),
    )
    return Checkpoint(epoch, restored['state'], restored['history'])
