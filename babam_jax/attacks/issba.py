"""ISSBA (Li et al. 2021, "Invisible backdoor attack with sample-specific
triggers"): a network hides a number in each picture, so that no two changes are
alike; a wrong label.

The networks are smaller than the authors' (`models/steganography.py`), learn
from the training set, and have neither a critic nor a perceptual loss: the size
of the change is held down by its mean square alone.
"""

import dataclasses
import functools
import pathlib
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from jax import lax
from jaxtyping import Array, Float, PyTree

from babam_jax import files, seeds, settings
from babam_jax.attacks.base import (
  TESTING,
  Crafted,
  Knowledge,
  LearnedTrigger,
  Pictures,
  needed,
)
from babam_jax.models.steganography import TILE, Hider, Reader
from babam_jax.progress import progress_bar
from babam_jax.settings import setting
from babam_jax.training import parallel

_SECRET = 'secret'
_SEPARATOR = '/'
_BATCH = 16
_RATE = 1e-3
_BITS_ALONE = 0.4  # the share of the steps before the change must be small
_STRENGTH = 40.0  # the weight of the mean square of the change at the end
_ROUNDING = 0.5 / 255


@dataclasses.dataclass(frozen=True)
class Issba(LearnedTrigger):
  """Pictures of the attacker in which a number is hidden, with the victim's
  label."""

  knows_training: ClassVar[bool] = True
  shows: ClassVar[tuple[str, ...]] = ('hidden_bits',)

  hidden_bits: int = setting(
    20, 'Bits of the number that is hidden.', at_least=1, at_most=100
  )
  hiding_steps: int = setting(
    600, 'Steps in which the networks learn to hide and read.', at_least=1
  )

  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """Trains the networks, draws a number, hides it in the sources.

    Raises:
      UserError: `knowledge` is None.
    """
    self.check_pictures(targets, sources)
    known = needed(knowledge)
    with files.scratch_folder(scratch) as folder:
      path = folder / 'networks.npz'
      if not path.exists():
        params = self._learn(known.training_set.images, seed)
        files.write_arrays(path, _flat(params))
      params = files.read_arrays(path)
    secret = seeds.numpy_rng(seed, _SECRET).integers(0, 2, self.hidden_bits)
    trigger = params | {_SECRET: secret.astype(np.float32)}
    shown = self.showing(trigger).show(sources, seed=seed)
    read = self._read(params, shown)
    summary = {
      'bits_read': float(((read > 0) == secret).mean()),
      'psnr': _psnr(sources, shown),
    }
    return Crafted(shown, sources, shown, summary, None, trigger)

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures with the number hidden in each."""
    del seed, stream
    params = _tree(self.learned)['hider']
    bits = np.tile(self.learned[_SECRET], (len(pictures), 1))
    return parallel.map_batches(
      _mapped_hiding(), params, (pictures, bits), _BATCH
    )

  def _read(self, params: dict[str, np.ndarray], pictures: Pictures) -> Any:
    read = _mapped_reading(self.hidden_bits)
    reader = _tree(params)['reader']
    return parallel.map_batches(read, reader, (pictures,), _BATCH)

  def _learn(self, pictures: Pictures, seed: int) -> PyTree:
    """Trains both networks on crops as large as a tile."""
    rng = seeds.numpy_rng(seed, 'hiding')
    optimizer = optax.adam(_RATE)
    params = _initial(self.hidden_bits, seed)
    state = parallel.replicate((params, optimizer.init(params)))
    step = parallel.mapped_update(
      functools.partial(_step, self.hidden_bits, optimizer), num_shared=1
    )
    rows = parallel.round_up(_BATCH)
    with progress_bar(self.hiding_steps, 'learning to hide', 'step') as bar:
      for number in range(self.hiding_steps):
        crops = _crops(pictures, rows, rng)
        bits = rng.integers(0, 2, (rows, self.hidden_bits)).astype(np.float32)
        rounding = rng.uniform(-_ROUNDING, _ROUNDING, crops.shape)
        progress = number / self.hiding_steps
        batch = parallel.shard((crops, bits, rounding.astype(np.float32)))
        state, found = step(state, np.float32(progress), batch)
        bar.update()
        wrong, change = (float(np.mean(one)) for one in jax.device_get(found))
        bar.set_postfix(wrong=f'{wrong:.3f}', rms=f'{change:.1f}')
    return jax.device_get(state[0])

  def check(self, path: str, size: int) -> None:
    """Checks that the pictures are as large as a tile."""
    super().check(path, size)
    if size < TILE:
      settings.refuse('data.size', size, f'{TILE} or more, as ISSBA hides in')


def _initial(num_bits: int, seed: int) -> PyTree:
  keys = jax.random.split(seeds.jax_key(seed, 'hiding networks'))
  image, bits = jnp.zeros((1, TILE, TILE, 3)), jnp.zeros((1, num_bits))
  return {
    'hider': Hider().init(keys[0], image, bits)['params'],
    'reader': Reader(num_bits).init(keys[1], image)['params'],
  }


def _crops(
  pictures: Pictures, count: int, rng: np.random.Generator
) -> Float[np.ndarray, 'm t t 3']:
  rows = rng.integers(0, len(pictures), count)
  tops, lefts = rng.integers(0, pictures.shape[1] - TILE + 1, (2, count))
  crops = [
    pictures[row, top : top + TILE, left : left + TILE]
    for row, top, left in zip(rows, tops, lefts, strict=True)
  ]
  return np.stack(crops).astype(np.float32) / 255


def _hidden(
  params: PyTree, images: Float[Array, 'n h w 3'], bits: Float[Array, 'n b']
) -> Float[Array, 'n h w 3']:
  change = cast(Array, Hider().apply({'params': params}, images, bits))
  return jnp.clip(images + change, 0, 1)


def _step(
  num_bits: int,
  optimizer: optax.GradientTransformation,
  state: tuple[PyTree, Any],
  progress: Array,
  batch: tuple[Array, Array, Array],
) -> tuple[tuple[PyTree, Any], tuple[Array, Array]]:
  """One step; the metrics are the share of wrong bits and the root of the mean
  square of the change, in gray levels."""
  params, memory = state
  images, bits, rounding = batch
  # At first the number must be read; then the change becomes small.
  ramp = jnp.clip((progress - _BITS_ALONE) / 0.3, 0, 1)

  def loss_of(params: PyTree) -> tuple[Array, tuple[Array, Array]]:
    hidden = _hidden(params['hider'], images, bits)
    reader = Reader(num_bits)
    seen = reader.apply({'params': params['reader']}, hidden + rounding)
    logits = cast(Array, seen)
    unread = optax.sigmoid_binary_cross_entropy(logits, bits).mean()
    change = jnp.mean((hidden - images) ** 2)
    wrong = jnp.mean((logits > 0) != (bits > 0.5))
    return unread + _STRENGTH * ramp * change, (wrong, change)

  gradients, found = jax.grad(loss_of, has_aux=True)(params)
  gradients, (wrong, change) = lax.pmean((gradients, found), parallel.AXIS)
  updates, memory = optimizer.update(gradients, memory)
  params = optax.apply_updates(params, updates)
  return (params, memory), (wrong, 255 * jnp.sqrt(change))


@functools.cache
def _mapped_hiding() -> Any:
  def hide(params, pictures, bits):
    hidden = _hidden(params, pictures / 255.0, bits)
    return jnp.rint(hidden * 255).astype(jnp.uint8)

  return parallel.mapped(hide, 1, 2)


@functools.cache
def _mapped_reading(num_bits: int) -> Any:
  def read(params, pictures):
    return Reader(num_bits).apply({'params': params}, pictures / 255.0)

  return parallel.mapped(read, 1, 1)


def _psnr(before: Pictures, after: Pictures) -> float:
  """The peak signal-to-noise ratio, in decibels."""
  squares = np.mean((after.astype(np.float32) - before) ** 2)
  return float(20 * np.log10(255) - 10 * np.log10(max(squares, 1e-9)))


def _flat(params: PyTree) -> dict[str, np.ndarray]:
  flat = traverse_util.flatten_dict(params, sep=_SEPARATOR)
  return {name: np.asarray(value) for name, value in flat.items()}


def _tree(arrays: Any) -> PyTree:
  named = {name: a for name, a in arrays.items() if name != _SECRET}
  return traverse_util.unflatten_dict(named, sep=_SEPARATOR)
