"""Speed of work on face networks: embedding, beside dlib and ONNX Runtime;
crafting in the embedding and training of a head, beside PyTorch.

  pip install dlib-bin onnxruntime
  python -m benchmarks.face_networks --onnx=MOBILEFACENET.onnx [--peer=PYTHON]

All run on all cores, in turn. dlib and ONNX Runtime as they come; PyTorch, for
which `--peer` is an interpreter that has it, in plain descent steps, while ours
are those of the default optimizer, which do more. A head trains on embeddings
from memory, as enrolment does.
"""

import functools
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from babam_jax import cpu, seeds
from babam_jax.attacks import collision, poison_set
from babam_jax.models import heads, networks
from babam_jax.models.pretrained import weights
from babam_jax.progress import say
from babam_jax.training import (
  batches,
  optimizer,
  parallel,
  recognizer,
  train,
)
from benchmarks import crafting, timing

_ONNX = flags.DEFINE_string('onnx', None, 'A file of MobileFaceNet.')
_BATCH = 32
_ROUNDS, _REPEATS = 5, 3
_SCRIPT = pathlib.Path(__file__).parent / 'peers' / 'face_torch.py'
_CRAFTED, _ITERATIONS = 48, 12
_LEARNED, _EPOCHS, _ENROLLED = 32, 8, 1024
_CLASSES = 12


def _faces(size: int) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (_BATCH, size, size, 3), np.uint8)


def _ours(model: str, variables: Any) -> Callable[[], Any]:
  faces = _faces(networks.ARCHITECTURES[model].trained_on)
  features = functools.partial(recognizer.trunk_features, model)
  mapped = parallel.mapped(features, 1, 1)
  shared = parallel.replicate(jax.tree.map(np.asarray, variables))
  return lambda: mapped(shared, parallel.shard(faces))


def _dlib() -> Callable[[], Any]:
  import dlib

  path = weights.embedded_path('dlib_resnet')
  network = dlib.face_recognition_model_v1(str(path))
  faces = list(_faces(150))
  return lambda: network.compute_face_descriptor(faces)


def _onnx_runtime(path: str) -> Callable[[], Any]:
  import onnxruntime

  session = onnxruntime.InferenceSession(path)
  (entry,) = session.get_inputs()
  inputs = (_faces(112).astype(np.float32) - 127.5) / 127.5
  inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
  # Its graph takes one face at a time.
  parts = [inputs[i : i + 1] for i in range(_BATCH)]
  return lambda: [session.run(None, {entry.name: part}) for part in parts]


def _compared(
  ours: Callable[[], Any], theirs: Callable[[], Any]
) -> dict[str, Any]:
  """Faces per second of both, which take turns."""
  rates: dict[str, list[float]] = {'ours': [], 'theirs': []}
  for _ in range(_ROUNDS):
    for name, step in (('ours', ours), ('theirs', theirs)):
      rates[name] += [_BATCH / t for t in timing.seconds(step, _REPEATS)]
  medians = [statistics.median(found) for found in rates.values()]
  found: dict[str, Any] = {n: timing.summary(x) for n, x in rates.items()}
  return found | {'ratio': round(medians[0] / medians[1], 3)}


def _crafting(model: str) -> Callable[[], float]:
  """Image-iterations per second in the embedding, between two pairings."""
  surrogate = poison_set.SurrogateCollision(
    model=model, tap='embedding', pretrained='none'
  ).surrogate(0)
  spec = crafting.spec(_ITERATIONS, _CRAFTED)
  crafter = collision.Crafter(surrogate.features, surrogate.variables, spec)
  rng = np.random.default_rng(0)
  side = networks.ARCHITECTURES[model].trained_on
  shape = (2, _CRAFTED, side, side, 3)
  targets, sources = rng.integers(0, 256, shape, np.uint8)

  def rate() -> float:
    ticks: list[float] = []
    crafter.craft(
      targets, sources, on_steps=lambda *_: ticks.append(time.perf_counter())
    )
    return _CRAFTED / statistics.median(np.diff(ticks))

  return rate


class Head:
  """A linear layer that trains on embeddings, as enrolment does.

  Args:
    model: whose embeddings.
  """

  def __init__(self, model: str):
    rng = np.random.default_rng(0)
    width = networks.ARCHITECTURES[model].channels
    self._inputs = rng.random((_ENROLLED, width), np.float32)
    self._labels = (np.arange(_ENROLLED) % _CLASSES).astype(np.int32)
    spec = recognizer.Recognizer(
      model, _CLASSES, networks.WIDTH, 'none', 'trunk', 0.0, heads.DENSE
    )
    network = spec.network(0, self._labels)
    tx = optimizer.make_optimizer('adam', 1e-2, _ENROLLED // _LEARNED, 1)
    self._update = train.make_update(network, tx)
    self._state = parallel.replicate(train.initial_state(network, tx))
    self._shared = parallel.replicate(
      (network.frozen, seeds.jax_key(0, 'benchmark'))
    )

  def epochs(self, count: int) -> Any:
    """Some passes over the embeddings, as `train.fit` makes them."""
    units, steps = np.arange(_ENROLLED)[:, None], _ENROLLED // _LEARNED
    calls = batches.num_calls(self._inputs, steps, _LEARNED)
    metrics = None
    for epoch in range(count):
      order = batches.epoch_batches(units, _LEARNED, _LEARNED, 0, epoch, calls)
      counts = np.ones(_ENROLLED, np.float32)
      examples = (self._inputs, self._labels, counts)
      self._state, metrics = train.run_epoch(
        self._update, self._state, self._shared, examples, order
      )
    return metrics


def _head(model: str) -> Callable[[], float]:
  """Embeddings per second of a head that trains."""
  learning = Head(model)

  def rate() -> float:
    (seconds,) = timing.seconds(lambda: learning.epochs(_EPOCHS), 1)
    return _ENROLLED * _EPOCHS / seconds

  return rate


def _beside_torch(model: str) -> dict[str, Any]:
  """Crafting and a head, ours and PyTorch's in turn."""
  work = {
    'crafting': (_crafting(model), _CRAFTED, _ITERATIONS),
    'head': (_head(model), _LEARNED, _ENROLLED // _LEARNED * _EPOCHS),
  }
  found = {}
  for name, (ours, batch, repeats) in work.items():
    rates: dict[str, list[float]] = {'ours': [], 'theirs': []}
    for _ in range(_ROUNDS):
      rates['ours'].append(ours())
      if timing.PEER.value:
        peer = timing.peer(
          _SCRIPT,
          f'--model={model}',
          f'--work={name}',
          f'--batch={batch}',
          f'--repeats={repeats}',
        )
        rates['theirs'].append(peer['rate'])
    found[name] = {n: timing.summary(x) for n, x in rates.items() if x}
    if rates['theirs']:
      medians = [statistics.median(x) for x in rates.values()]
      found[name]['ratio'] = round(medians[0] / medians[1], 3)
  say(f'{model}: {found}')
  return found


def main(argv) -> None:
  """Measures both networks."""
  del argv
  cpu.configure()
  embedding = {}
  found = weights.find('dlib_resnet', 'trunk')
  ours = _ours('dlib_resnet', found.variables)
  embedding['dlib_resnet beside dlib'] = _compared(ours, _dlib())
  if _ONNX.value:
    path = pathlib.Path(_ONNX.value)
    found = weights.read_file(path, 'mobile_face_net', 'trunk')
    ours = _ours('mobile_face_net', found.variables)
    embedding['mobile_face_net beside ONNX Runtime'] = _compared(
      ours, _onnx_runtime(str(path))
    )
  models = ('dlib_resnet', 'mobile_face_net')
  beside = {model: _beside_torch(model) for model in models}
  timing.report(
    {
      'batch': _BATCH,
      'faces_per_second': embedding,
      'crafted image-iterations or trained embeddings per second, beside '
      'PyTorch': beside,
    }
  )


if __name__ == '__main__':
  app.run(main)
