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
  history: list[dict[str, Any]]


class Checkpoints:
  """The checkpoints of one training run; the newest one is kept."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder.absolute()
    self._manager = None if parallel.process_id() else self._open()

  def _open(self) -> ocp.CheckpointManager:
    self._folder.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
      max_to_keep=1,
      create=False,
      # In the background it would wait, by a clock that may jump, for threads
      # that may have died when memory ended.
      enable_async_checkpointing=False,
      # It must not wait for other processes: they have no manager.
      multiprocessing_options=ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}
      ),
    )
    return ocp.CheckpointManager(self._folder, options=options)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *unused: Any) -> None:
    if self._manager:
      self._manager.close()

  def save(self, checkpoint: Checkpoint) -> None:
    """Saves a checkpoint.

    Of several processes only the first one saves.

    Raises:
      UserError: the disk cannot hold another checkpoint.
    """
    if not self._manager:
      return
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
        # JsonSave stores lists, too, whatever its type hint says.
        history=ocp.args.JsonSave(checkpoint.history),  # pyright: ignore[reportArgumentType]
      ),
    )

  def newest(self, like: PyTree) -> Checkpoint | None:
    """The newest complete checkpoint, or None; the same in all processes.

    The other processes receive the state that the first one reads, no history.

    Args:
      like: a state of the right structure and shapes, host arrays.
    """
    mine = self._read(like) if self._manager else None
    if not parallel.first_says(mine is not None):
      return None
    mine = mine or Checkpoint(0, like, [])
    epoch, state = parallel.from_first((np.array(mine.epoch), mine.state))
    return Checkpoint(int(epoch), state, mine.history)

  def _read(self, like: PyTree) -> Checkpoint | None:
    assert self._manager
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
