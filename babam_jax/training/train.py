"""The one training loop: face recognition and PIRM differ by network, data
and config node only."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Int32, PyTree, Shaped

from babam_jax import errors, seeds
from babam_jax.progress import progress_bar
from babam_jax.training import batches, optimizer, parallel


@dataclasses.dataclass(frozen=True)
class TrainSpec:
  """How to train.

  Attributes:
    optimizer: one of `optimizer.OPTIMIZERS`.
    learning_rate: at the first step.
    epochs: passes over the training set.
    batch_size: rows per step, over all devices.
    checkpoint_every: epochs between two checkpoints.
  """

  optimizer: str
  learning_rate: float
  epochs: int
  batch_size: int
  checkpoint_every: int


def spec_of(settings: Any) -> TrainSpec:
  """The `TrainSpec` that is part of other settings.

  Args:
    settings: a dataclass that has all fields of `TrainSpec`.
  """
  names = (field.name for field in dataclasses.fields(TrainSpec))
  return TrainSpec(**{name: getattr(settings, name) for name in names})


class Network(NamedTuple):
  """A classifier in training, whatever its inputs are.

  Attributes:
    apply: `(params, stats, frozen, inputs, keys, weights) -> (heads, stats)`;
      `inputs` are rows of the training set, `keys` one per row (they drive
      augmentation and dropout), `weights` are 0 for padding rows; `heads` are
      the logits, and after them those of auxiliary heads.
    params: the trainable parameters at the start.
    stats: batch statistics, `{}` without BatchNorm.
    frozen: variables that do not train, `{}` if all do.
    loss_weights: one for each of the heads.
  """

  apply: Callable[..., tuple[tuple[Float[Array, 'b c'], ...], PyTree]]
  params: PyTree
  stats: PyTree
  frozen: PyTree
  loss_weights: tuple[float, ...] = (1.0,)


EpochRecord = dict[str, Any]


class Trained(NamedTuple):
  """What training gives back, on the host.

  Attributes:
    params: the trained parameters.
    stats: the batch statistics.
    history: per epoch: last `step`, mean `loss` and `accuracy`, and the lists
      `step_loss` and `step_accuracy` of its steps.
  """

  params: PyTree
  stats: PyTree
  history: list[EpochRecord]


def initial_state(
  network: Network, tx: optax.GradientTransformation
) -> dict[str, Any]:
  """What the first step of training begins with, in the host's memory."""
  return jax.device_get(
    {
      'params': network.params,
      'stats': network.stats,
      'opt_state': tx.init(network.params),
      'step': jnp.zeros((), jnp.int32),
    }
  )


def make_update(
  network: Network, tx: optax.GradientTransformation, unit_size: int = 1
) -> Callable:
  """`(state, frozen, key, steps) -> (state, metrics)` over all devices.

  `steps` are the batches of some steps, [s, rows, ...]; so are the metrics [s].
  The rows of a unit are given the same key.
  """

  def update(state, frozen, key, batch):
    inputs, labels, weights = batch
    key = jax.random.fold_in(key, state['step'])
    # A key for each place in the global batch, whatever the device count.
    places = parallel.row_numbers(len(labels)) // unit_size
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
    total = lax.psum(weights.sum(), parallel.AXIS)

    def loss_fn(params):
      heads, stats = network.apply(
        params, state['stats'], frozen, inputs, keys, weights
      )
      losses = sum(
        weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        for weight, logits in zip(network.loss_weights, heads, strict=True)
      )
      return (losses * weights).sum() / total, (heads[0], stats)

    (loss, (logits, stats)), gradients = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state['params'])
    hits = ((logits.argmax(-1) == labels) * weights).sum()
    gradients, loss, hits = lax.psum((gradients, loss, hits), parallel.AXIS)
    updates, opt_state = tx.update(
      gradients, state['opt_state'], state['params']
    )
    state = {
      'params': optax.apply_updates(state['params'], updates),
      'stats': lax.pmean(stats, parallel.AXIS),
      'opt_state': opt_state,
      'step': state['step'] + 1,
    }
    return state, {'loss': loss * total, 'hits': hits, 'rows': total}

  def updates(state, frozen, key, steps):
    if len(steps[1]) == 1:  # even a loop of one step is slow
      (batch,) = zip(*steps, strict=True)
      state, metrics = update(state, frozen, key, batch)
      return state, jax.tree.map(lambda x: x[None], metrics)
    return lax.scan(
      lambda state, batch: update(state, frozen, key, batch), state, steps
    )

  return parallel.mapped_update(updates, num_shared=2)


def _epoch_record(metrics: list[dict[str, Any]], step: int) -> EpochRecord:
  """The metrics of an epoch and its steps; stops at a non-finite loss."""
  found = jax.tree.map(lambda *x: np.concatenate(jax.device_get(x)), *metrics)
  rows = found['rows']
  record = {
    'step': step,
    'loss': float(found['loss'].sum() / rows.sum()),
    'accuracy': float(found['hits'].sum() / rows.sum()),
    'step_loss': (found['loss'] / rows).tolist(),
    'step_accuracy': (found['hits'] / rows).tolist(),
  }
  if not np.isfinite(record['loss']):
    raise errors.TrainingDivergedError(
      f'The training loss is {record["loss"]} in the epoch that ends at step '
      f'{step}, expected a number. Lower the learning rate.'
    )
  return record


def run_epoch(
  update: Callable,
  state: PyTree,
  shared: tuple[PyTree, PyTree],
  examples: tuple[np.ndarray, np.ndarray, np.ndarray],
  order: Iterable[batches.Batches],
  on_steps: Callable[[int], object] = lambda count: None,
) -> tuple[PyTree, list[dict[str, Any]]]:
  """Trains on batches; returns the state, and the metrics of each call.

  Args:
    update: as `make_update` made it; it reuses the memory of the state.
    state: the state before.
    shared: what does not train, and the key, on all devices.
    examples: inputs, labels, and how much each row counts.
    order: the rows of the steps of each call.
    on_steps: called with how many steps were begun.
  """
  inputs, labels, counts = examples
  metrics = []
  for rows, weights in order:
    batch = (inputs[rows], labels[rows], weights * counts[rows])
    state, found = update(state, *shared, parallel.shard(batch, axis=1))
    metrics.append(found)
    on_steps(len(rows))
  return state, metrics


def fit(
  network: Network,
  inputs: Shaped[np.ndarray, ' n *d'],
  labels: Int32[np.ndarray, ' n'],
  spec: TrainSpec,
  *,
  seed: int,
  folder: pathlib.Path,
  title: str,
  units: Int[np.ndarray, 'u k'] | None = None,
  row_weights: Float[np.ndarray, ' n'] | None = None,
  on_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> Trained:
  """Trains a classifier; continues from the checkpoints in `folder`.

  Args:
    network: the network to train.
    inputs: the training set, as `network.apply` takes it.
    labels: class numbers.
    spec: how to train.
    seed: order, augmentation and dropout depend on nothing else.
    folder: the folder of the checkpoints.
    title: for the progress bar.
    units: rows that stay together and are augmented alike; the batch size is a
      multiple of k. None: each row is a unit.
    row_weights: how much each row counts in the loss; None: all alike.
    on_epoch: receives each epoch's metrics, those of epochs before a restart
      included.

  Raises:
    TrainingDivergedError: the loss is not finite.
  """
  # Orbax takes a quarter of a second to load, which few commands need.
  from babam_jax.training.checkpoint import Checkpoint, Checkpoints

  if units is None:
    units = np.arange(len(labels))[:, None]
  counts = np.ones(len(labels)) if row_weights is None else row_weights
  rows = (inputs, labels, counts.astype(np.float32))
  steps = batches.num_batches(units.size, spec.batch_size)
  calls = batches.num_calls(inputs, steps, spec.batch_size)
  padded_size = parallel.round_up(min(spec.batch_size, units.size))
  tx = optimizer.make_optimizer(
    spec.optimizer, spec.learning_rate, steps, spec.epochs
  )
  update = make_update(network, tx, units.shape[1])
  state = initial_state(network, tx)
  key = seeds.jax_key(seed, 'train')
  shared = parallel.replicate((network.frozen, key))

  with (
    Checkpoints(folder) as checkpoints,
    progress_bar(spec.epochs * steps, title, 'step') as bar,
  ):
    done = checkpoints.newest(state) or Checkpoint(0, state, [])
    state, history = parallel.replicate(done.state), list(done.history)
    for record in history:
      on_epoch(record)
    bar.update(done.epoch * steps)

    for epoch in range(done.epoch, spec.epochs):
      order = batches.epoch_batches(
        units, spec.batch_size, padded_size, seed, epoch, calls
      )
      state, metrics = run_epoch(update, state, shared, rows, order, bar.update)
      history.append(_epoch_record(metrics, (epoch + 1) * steps))
      on_epoch(history[-1])
      if (epoch + 1) % spec.checkpoint_every == 0 and epoch + 1 < spec.epochs:
        checkpoints.save(
          Checkpoint(epoch + 1, jax.device_get(state), list(history))
        )
  return Trained(
    jax.device_get(state['params']), jax.device_get(state['stats']), history
  )


def predict(
  logits_fn: Callable[..., Float[Array, 'b c']],
  variables: PyTree,
  inputs: Shaped[np.ndarray, ' n *d'],
  batch_size: int,
  on_batch: Callable[[int], object] = lambda rows: None,
) -> Float[np.ndarray, 'n c']:
  """`logits_fn(variables, inputs)` for all rows, over all devices."""
  mapped = parallel.mapped(logits_fn, 1, 1)
  return parallel.map_batches(
    mapped, variables, (inputs,), batch_size, on_batch
  )
