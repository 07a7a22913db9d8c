"""Embedding speed of the face networks, in faces per second, beside dlib and
ONNX Runtime.

  pip install dlib-bin onnxruntime
  python -m benchmarks.face_networks --onnx=MOBILEFACENET.onnx

All run on all cores, in turn; dlib and ONNX Runtime as they come.
"""

import functools
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from babam_jax import cpu
from babam_jax.models import networks
from babam_jax.models.pretrained import weights
from babam_jax.training import parallel, recognizer
from benchmarks import timing

_ONNX = flags.DEFINE_string('onnx', None, 'A file of MobileFaceNet.')
_BATCH = 32
_ROUNDS, _REPEATS = 5, 3


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


def main(argv) -> None:
  """Measures both networks."""
  del argv
  cpu.configure()
  figures = {}
  found = weights.find('dlib_resnet', 'trunk')
  ours = _ours('dlib_resnet', found.variables)
  figures['dlib_resnet beside dlib'] = _compared(ours, _dlib())
  if _ONNX.value:
    path = pathlib.Path(_ONNX.value)
    found = weights.read_file(path, 'mobile_face_net', 'trunk')
    ours = _ours('mobile_face_net', found.variables)
    figures['mobile_face_net beside ONNX Runtime'] = _compared(
      ours, _onnx_runtime(str(path))
    )
  timing.report({'batch': _BATCH, 'faces_per_second': figures})


if __name__ == '__main__':
  app.run(main)
