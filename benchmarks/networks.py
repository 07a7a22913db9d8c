"""Forward and training speed of torchvision's networks, in images per second.

  python -m benchmarks.networks [--peer=PYTHON] [--models=resnet18,...]

`--peer` is an interpreter with torch and torchvision; it runs the same work,
alternating with ours. Training is one step of SGD with momentum, in which
everything trains.
"""

import functools
import pathlib
import statistics
from typing import Any

import numpy as np
from absl import app, flags

from babam_jax import seeds
from babam_jax.models import networks
from babam_jax.progress import say
from babam_jax.training import optimizer, parallel, recognizer, train
from benchmarks import timing

_MODELS = flags.DEFINE_list(
  'models',
  [name for name, x in networks.ARCHITECTURES.items() if x.official],
  'The networks.',
)
_BATCH = 8
_ROUNDS = 4  # in each, ours and the peer take turns
_REPEATS = 3
_CLASSES = 12
_SCRIPT = pathlib.Path(__file__).parent / 'peers' / 'torchvision_networks.py'


def _pictures(model: str, batch: int) -> np.ndarray:
  size = networks.ARCHITECTURES[model].trained_on
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (batch, size, size, 3), np.uint8)


class Ours:
  """One network, compiled."""

  def __init__(self, model: str, batch: int):
    labels = (np.arange(batch) % _CLASSES).astype(np.int32)
    images = _pictures(model, batch)
    spec = recognizer.Recognizer(
      model, _CLASSES, networks.WIDTH, 'none', 'none', 0.0
    )
    network = spec.network(0, labels)
    variables = parallel.replicate(
      {'params': network.params, 'batch_stats': network.stats}
    )
    logits = parallel.mapped(spec.logits, 1, 1)
    self.forward = functools.partial(logits, variables, parallel.shard(images))

    tx = optimizer.make_optimizer('sgd', 1e-3, 1, 1)
    update = train.make_update(network, tx)
    self._state = parallel.replicate(train.initial_state(network, tx))
    rows = (images, labels, np.ones(batch, np.float32))
    one_step = tuple(x[None] for x in rows)
    self._update = update
    self._rest = (
      *parallel.replicate((network.frozen, seeds.jax_key(0, 'benchmark'))),
      parallel.shard(one_step, axis=1),
    )

  def training(self):
    """Runs one training step."""
    self._state, metrics = self._update(self._state, *self._rest)
    return metrics


def measure(model: str) -> dict[str, Any]:
  """Images per second of one network, ours and the peer's."""
  ours, batch = Ours(model, _BATCH), _BATCH
  found: dict[str, list[float]] = {'forward': [], 'training': []}
  theirs: dict[str, list[float]] = {'forward': [], 'training': []}
  for _ in range(_ROUNDS):
    for kind, times in found.items():
      times += timing.seconds(getattr(ours, kind), _REPEATS)
    if timing.PEER.value:
      size = networks.ARCHITECTURES[model].trained_on
      peer = timing.peer(
        _SCRIPT,
        f'--model={model}',
        f'--batch={batch}',
        f'--size={size}',
        f'--repeats={_REPEATS}',
      )
      for kind, rates in theirs.items():
        rates.append(peer[kind])
  result = {kind: timing.rate(batch, times) for kind, times in found.items()}
  for kind, rates in theirs.items():
    if rates:
      median = statistics.median(rates)
      result[kind]['torchvision'] = timing.summary(rates)
      result[kind]['ratio'] = round(result[kind]['median'] / median, 3)
  say(f'{model}: {result}')
  return result


def main(argv) -> None:
  """Measures all networks in turn."""
  del argv
  figures = {model: measure(model) for model in _MODELS.value}
  timing.report({'batch': _BATCH, 'images_per_second': figures})


if __name__ == '__main__':
  app.run(main)
