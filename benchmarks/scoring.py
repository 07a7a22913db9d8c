"""PIRM scoring, VGG16 at 178x218 pixels, in pictures per second.

  python -m benchmarks.scoring [--peer=PYTHON]

Ours starts from 8-bit pictures and ends with probabilities on the host; the
peer times the network alone.
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from babam_jax.defenses import pirm
from babam_jax.models import vgg
from benchmarks import timing

_BATCH = 16
_ROUNDS = 3  # in each, ours and the peer take turns
_STEPS = 3  # batches in one measurement


def main(argv) -> None:
  """Measures both in turn, a few times."""
  del argv
  batch = _BATCH
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (_STEPS * batch, 178, 218, 3), np.uint8)
  variables = jax.jit(vgg.PaperPirm().init)(
    jax.random.key(0), jnp.zeros((1, 178, 218, 3))
  )
  model = pirm.Pirm('vgg16', jax.device_get(variables), {})
  ours, peer = [], []
  for _ in range(_ROUNDS):
    times = timing.seconds(lambda: pirm.score(model, images, batch), 2)
    ours += [len(images) / t for t in times]
    if timing.PEER.value:
      found = timing.bench_peer('score_torch.py', f'--batch={batch}')
      peer.append(found['images_per_second'])
  figures = {
    'batch': batch,
    'images_per_second': {'ours': timing.summary(ours)},
  }
  if peer:
    figures['images_per_second']['torch'] = timing.summary(peer)
    ratio = statistics.median(ours) / statistics.median(peer)
    figures['ours_over'] = {'torch': round(ratio, 2)}
  timing.report(figures)


if __name__ == '__main__':
  app.run(main)
