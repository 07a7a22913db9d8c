"""Narcissus (Zeng et al. 2023, "Narcissus: a practical clean-label backdoor
attack with limited information"): one faint pattern, on which a model sees the
victim most clearly, is added to pictures of the victim; the true label.

The authors' attacker has the victim's class and other pictures to train his
model on; here he has the training set.
"""

import dataclasses
import functools
import pathlib
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from babam_jax import files, seeds
from babam_jax.attacks import own_model
from babam_jax.attacks.base import (
  TESTING,
  Attack,
  Crafted,
  Knowledge,
  LearnedTrigger,
  Pictures,
  needed,
)
from babam_jax.attacks.gradient_matching import Trained
from babam_jax.attacks.optimizers import OPTIMIZERS, CraftingSpec
from babam_jax.progress import progress_bar
from babam_jax.settings import setting
from babam_jax.training import parallel

_PATTERN = 'pattern'


@dataclasses.dataclass(frozen=True)
class Narcissus(CraftingSpec, LearnedTrigger, Attack):
  """Pictures of the victim with a pattern that says: this is he."""

  knows_training: ClassVar[bool] = True
  shows: ClassVar[tuple[str, ...]] = ('amplified',)

  amplified: float = setting(
    3.0,
    'How much stronger the pattern is that the attacker shows.',
    above=0,
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
    """Finds the pattern for a model of the attacker's own, and adds it.

    Raises:
      UserError: `knowledge` is None.
    """
    self.check_pictures(targets, sources)
    known = needed(knowledge)
    with files.scratch_folder(scratch) as folder:
      path = folder / f'{_PATTERN}.npz'
      if not path.exists():
        model = own_model.train(known, targets[:0], seed, folder / 'model')
        pattern, loss = self._find(model, known, seed)
        found = {_PATTERN: pattern, 'loss': np.float32(loss)}
        files.write_arrays(path, found)
      found = files.read_arrays(path)
    trigger = {_PATTERN: found[_PATTERN]}
    return Crafted(
      _added(targets, trigger[_PATTERN], 1.0),
      targets,
      self.showing(trigger).show(sources, seed=seed),
      {'loss': float(found['loss'])},
      None,
      trigger,
    )

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures with the pattern, amplified."""
    del seed, stream
    return _added(pictures, self.learned[_PATTERN], self.amplified)

  def _find(
    self, model: Trained, known: Knowledge, seed: int
  ) -> tuple[Float[np.ndarray, 'h w 3'], float]:
    """The pattern, in gray levels, and the loss with it."""
    training_set = known.training_set
    victims = training_set.images[training_set.labels == known.label]
    rng = seeds.numpy_rng(seed, 'pictures for the pattern')
    step = parallel.mapped_update(
      functools.partial(_step, model.logits, self, known.label), num_shared=2
    )
    pattern = jnp.zeros((1, *victims.shape[1:]), jnp.float32)
    state = (pattern, OPTIMIZERS[self.optimizer].direction.init(pattern))
    state = parallel.replicate(state)
    shared = parallel.replicate((model.params, model.fixed))
    rows = parallel.round_up(min(self.batch_size, len(victims)))
    loss = float('nan')
    with progress_bar(self.iterations, 'finding the pattern', 'step') as bar:
      for iteration in range(self.iterations):
        chosen = rng.permutation(len(victims))[:rows]
        batch = parallel.shard_padded(victims[chosen], rows)
        state, found = step(state, shared, np.float32(iteration), batch)
        loss = float(np.mean(jax.device_get(found)))
        bar.update()
        bar.set_postfix(loss=f'{loss:.3f}', refresh=False)
    return 255 * np.asarray(jax.device_get(state[0]))[0], loss


def _step(
  logits_fn: Any,
  spec: Narcissus,
  label: int,
  state: tuple[Array, Any],
  model: tuple[Any, Any],
  iteration: Array,
  rows: tuple[Array, Array],
) -> tuple[tuple[Array, Any], Array]:
  """One step of the pattern toward the victim's label, within eps."""
  pattern, memory = state
  pictures, weights = rows
  total = lax.psum(weights.sum(), parallel.AXIS)
  eps = spec.eps / 255

  def loss_of(pattern: Array) -> Array:
    pixels = jnp.clip(pictures / 255.0 + pattern, 0, 1)
    logits = logits_fn(*model, pixels)
    labels = jnp.full(len(logits), label)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (losses * weights).sum() / total

  loss, gradient = jax.value_and_grad(loss_of)(pattern)
  loss, gradient = lax.psum((loss, gradient), parallel.AXIS)
  optimizer = OPTIMIZERS[spec.optimizer]
  direction, memory = optimizer.direction.update(gradient, memory)
  rate = optimizer.rate(iteration / spec.iterations, iteration, eps)
  moved = pattern - rate * cast(Array, direction)
  return (jnp.clip(moved, -eps, eps), memory), loss


def _added(
  pictures: Pictures, pattern: Float[np.ndarray, 'h w 3'], strength: float
) -> Pictures:
  """Pictures plus a pattern in gray levels."""
  change = np.rint(strength * pattern).astype(np.int16)
  changed = np.empty_like(pictures)
  for i, picture in enumerate(pictures):
    changed[i] = np.clip(picture + change, 0, 255)
  return changed
