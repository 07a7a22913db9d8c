"""Where a training step of ResNet18 goes: its convolutions, and the rest.

  python -m benchmarks.resnet_step

Milliseconds and GFLOP/s of each convolution's forward pass and of its gradients
with respect to input and kernel, each compiled alone, and how often the network
has it; and the milliseconds of the whole step.
"""

import functools

import jax
import jax.numpy as jnp
from absl import app
from jaxtyping import Array, Float

from benchmarks import networks, timing

_BATCH = 8  # as in benchmarks.networks
# Input side and channels, output channels, kernel, stride, how often.
_CONVOLUTIONS = (
  (224, 3, 64, 7, 2, 1),
  (56, 64, 64, 3, 1, 4),
  (56, 64, 128, 3, 2, 1),
  (56, 64, 128, 1, 2, 1),
  (28, 128, 128, 3, 1, 3),
  (28, 128, 256, 3, 2, 1),
  (28, 128, 256, 1, 2, 1),
  (14, 256, 256, 3, 1, 3),
  (14, 256, 512, 3, 2, 1),
  (14, 256, 512, 1, 2, 1),
  (7, 512, 512, 3, 1, 3),
)


def _convolve(
  x: Float[Array, 'n h w c'], kernel: Float[Array, 'k k c d'], *, stride: int
) -> Float[Array, 'n i j d']:
  pad = (kernel.shape[0] - 1) // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((pad, pad), (pad, pad)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def measure(side: int, channels: int, width: int, size: int, stride: int):
  """Milliseconds of each of the three products, and their multiply-adds."""
  x = jax.random.normal(jax.random.key(0), (_BATCH, side, side, channels))
  kernel = jnp.full((size, size, channels, width), 0.01)
  convolve = functools.partial(_convolve, stride=stride)
  y = convolve(x, kernel)
  jobs = {
    'forward': convolve,
    'kernel': lambda x, k: jax.vjp(lambda k: convolve(x, k), k)[1](y),
    'input': lambda x, k: jax.vjp(lambda x: convolve(x, k), x)[1](y),
  }
  if channels == 3:  # training needs no gradient of the picture
    del jobs['input']
  times = {}
  for name, job in jobs.items():
    compiled = jax.jit(job)
    once = functools.partial(compiled, x, kernel)
    times[name] = 1e3 * min(timing.seconds(once))
  return times, y.size // width * kernel.size


def main(argv) -> None:
  """Measures all convolutions, then the whole step."""
  del argv
  found, total = {}, 0.0
  for *about, count in _CONVOLUTIONS:
    times, products = measure(*about)
    total += count * sum(times.values())
    side, channels, width, size, stride = about
    name = f'{side}x{side}x{channels} to {width}, {size}x{size} / {stride}'
    found[name] = {
      product: {
        'milliseconds': round(time, 2),
        'gflops': round(2 * products / time / 1e6),
        'times': count,
      }
      for product, time in times.items()
    }
  ours = networks.Ours('resnet18', _BATCH)
  step = 1e3 * min(timing.seconds(ours.training))
  timing.report(
    {
      'batch': _BATCH,
      'convolutions': found,
      'milliseconds': {'convolutions': round(total, 1), 'step': round(step, 1)},
    }
  )


if __name__ == '__main__':
  app.run(main)
