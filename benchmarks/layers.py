"""Where a crafting step's time goes: AlexNet layer by layer, batch of 48.

  python -m benchmarks.layers

Milliseconds and GFLOP/s of each layer's forward pass and of its gradient with
respect to the picture, each compiled alone; and the speed of a whole step if
nothing else took time.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app
from jaxtyping import Array

from babam_jax.models import layers
from benchmarks import timing

_BATCH = 48


def _conv(width: int, size: int) -> Callable[[Array], Array]:
  def apply(x: Array) -> Array:
    kernel = jnp.full((size, size, x.shape[-1], width), 0.01)
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  return apply


def _stem(x: Array) -> Array:
  return layers.strided(x, jnp.full((11, 11, 3, 64), 0.01), 4, 2)


def _pool(x: Array) -> Array:
  return layers.max_pool(nn.relu(x), 3, 2)


def _dense(width: int) -> Callable[[Array], Array]:
  return lambda x: x @ jnp.full((x.shape[-1], width), 0.01)


# Each layer, the shape of its input, its multiply-adds for a picture.
_LAYERS = {
  'conv1': (_stem, (224, 224, 3), 55**2 * 11**2 * 3 * 64),
  'relu, pool1': (_pool, (55, 55, 64), 0),
  'conv2': (_conv(192, 5), (27, 27, 64), 27**2 * 5**2 * 64 * 192),
  'relu, pool2': (_pool, (27, 27, 192), 0),
  'conv3': (_conv(384, 3), (13, 13, 192), 13**2 * 3**2 * 192 * 384),
  'conv4': (_conv(256, 3), (13, 13, 384), 13**2 * 3**2 * 384 * 256),
  'conv5': (_conv(256, 3), (13, 13, 256), 13**2 * 3**2 * 256 * 256),
  'relu, pool5': (_pool, (13, 13, 256), 0),
  'fc6': (_dense(4096), (9216,), 9216 * 4096),
  'fc7': (_dense(4096), (4096,), 4096 * 4096),
}


def measure(layer: Callable[[Array], Array], shape: tuple, products: int):
  """(milliseconds, GFLOP/s) forward and backward."""
  x = jax.random.normal(jax.random.key(0), (_BATCH, *shape))
  forward = jax.jit(layer)
  y, back = jax.vjp(layer, x)
  # The pool's gradient needs what its forward pass saw: both are arguments.
  backward = jax.jit(lambda back, y: back(y))
  found = {}
  for name, step in (
    ('forward', lambda: forward(x)),
    ('backward', lambda: backward(back, y)),
  ):
    seconds = min(timing.seconds(step))
    found[name] = {
      'milliseconds': round(seconds * 1e3, 2),
      'gflops': round(2 * products * _BATCH / seconds / 1e9),
    }
  return found


def main(argv) -> None:
  """Measures all layers."""
  del argv
  found = {name: measure(*about) for name, about in _LAYERS.items()}
  total = sum(
    x['milliseconds'] for both in found.values() for x in both.values()
  )
  timing.report(
    {
      'batch': _BATCH,
      'layers': found,
      'milliseconds': round(total, 1),
      'image_iterations_per_second': round(_BATCH / total * 1e3, 1),
    }
  )


if __name__ == '__main__':
  app.run(main)
