"""Neural Cleanse (Wang et al. 2019, "Neural Cleanse: identifying and mitigating
backdoor attacks in neural networks").

For each class it seeks the smallest patch that turns all pictures into it. A
class whose patch is much smaller than those of the others has a backdoor.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from babam_jax import files, seeds
from babam_jax.defenses.base import Context, Need, Repair
from babam_jax.defenses.fine_tuning import fine_tune
from babam_jax.defenses.suspect import Suspect
from babam_jax.progress import progress_bar
from babam_jax.settings import setting
from babam_jax.training import parallel
from babam_jax.training.classifier import NetworkClassifier

# As released with the paper.
_LEARNING_RATE = 0.1
_SUCCESS = 0.99
_COST = 1e-3  # initial weight of the mask's size in the loss
_RAISE, _LOWER = 1.5, 1.5**1.5
_PATIENCE = 5
_CONSISTENCY = 1.4826  # from median deviation to standard deviation
_OUTLIER = 2.0
_Array = TypeVar('_Array', Array, np.ndarray)


class Patch(NamedTuple):
  """The smallest patch that was found for a class.

  Attributes:
    mask: how far each pixel is covered, 0 to 1.
    pattern: the colors that cover it, in [0, 1].
    size: the sum of the mask.
    success: the share of pictures that it turns into the class.
  """

  mask: Float[np.ndarray, 'h w']
  pattern: Float[np.ndarray, 'h w 3']
  size: float
  success: float


def stamp(
  images: Float[_Array, 'n h w 3'],
  mask: Float[_Array, 'h w'],
  pattern: Float[_Array, 'h w 3'],
) -> Float[_Array, 'n h w 3']:
  """Pictures with the patch (Eq. 2)."""
  mask = mask[..., None]
  return (1 - mask) * images + mask * pattern


def _to_unit_interval(x: Array) -> Array:
  return jnp.tanh(x) / 2 + 0.5


class Reverser:
  """Searches for patches with one compiled step.

  Args:
    suspect: the model.
    trusted: clean pictures of all classes.
    rounds: passes over the trusted pictures for each class.
    batch_size: pictures at a time, over all devices.
  """

  def __init__(
    self,
    suspect: Suspect,
    trusted: UInt8[np.ndarray, 'n h w 3'],
    *,
    rounds: int,
    batch_size: int,
  ):
    self._rounds = rounds
    self._shape = trusted.shape[1:]
    self._tx = optax.adam(_LEARNING_RATE, b1=0.5, b2=0.9)
    self._variables = parallel.replicate(suspect.variables)
    self._step = self._make_step(suspect)
    self._batches = []
    size = 0
    for rows in parallel.even_batches(len(trusted), batch_size):
      size = size or parallel.round_up(len(rows))
      self._batches.append(parallel.shard_padded(trusted[rows], size))

  def _make_step(self, suspect: Suspect) -> Callable:
    def update(state, variables, label, cost, rows):
      images, weights = rows
      total = jax.lax.psum(weights.sum(), parallel.AXIS)
      devices = jax.lax.psum(1, parallel.AXIS)

      def loss_fn(free):
        mask, pattern = map(_to_unit_interval, free)
        stamped = stamp(images / 255.0, mask, pattern)
        logits = suspect.logits(variables, stamped)
        labels = jnp.full(len(logits), label)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        hits = ((logits.argmax(1) == label) * weights).sum()
        loss = (losses * weights).sum() / total
        return loss + cost * mask.sum() / devices, hits

      gradient, hits = jax.grad(loss_fn, has_aux=True)(state['free'])
      gradient, hits = jax.lax.psum((gradient, hits), parallel.AXIS)
      change, opt_state = self._tx.update(gradient, state['opt_state'])
      free = optax.apply_updates(state['free'], change)
      return {'free': free, 'opt_state': opt_state}, hits

    return parallel.mapped_update(update, num_shared=3)

  def find(
    self, label: int, on_round: Callable[[], object] = lambda: None
  ) -> Patch:
    """The smallest patch that turns 99 % of the pictures into a class.

    If there is none, the patch that turns the most.
    """
    height, width, channels = self._shape
    # Small and gray at the start, where the gradient of tanh is not flat.
    free = (np.full((height, width), -1.5, np.float32),)
    free += (np.zeros((height, width, channels), np.float32),)
    state = {'free': free, 'opt_state': self._tx.init(free)}
    state = parallel.replicate(state)
    count = sum(float(np.sum(weights)) for _, weights in self._batches)
    cost, above, below, best = _COST, 0, 0, None
    for _ in range(self._rounds):
      # The patch that this round judges; the first batch sees it unchanged.
      before = jax.device_get(state['free'])
      hits = 0.0
      for batch in self._batches:
        state, found = self._step(
          state, self._variables, np.int32(label), np.float32(cost), batch
        )
        hits += float(found)
      success = hits / count
      best = _better(best, before, success)
      above = above + 1 if success >= _SUCCESS else 0
      below = below + 1 if success < _SUCCESS else 0
      if above >= _PATIENCE:
        cost, above = cost * _RAISE, 0
      if below >= _PATIENCE:
        cost, below = cost / _LOWER, 0
      on_round()
    assert best is not None  # there is a round
    return best


def _better(best: Patch | None, free: tuple, success: float) -> Patch:
  mask, pattern = (np.tanh(x) / 2 + 0.5 for x in free)
  found = Patch(mask, pattern, float(mask.sum()), success)
  if best is None:
    return found

  def rank(patch: Patch) -> tuple[float, float]:
    return min(patch.success, _SUCCESS), -patch.size

  return max(best, found, key=rank)


def anomaly_indices(
  sizes: Float[np.ndarray, ' c'],
) -> Float[np.ndarray, ' c']:
  """How many median deviations each size lies from the median (section 4.2)."""
  deviations = np.abs(sizes - np.median(sizes))
  return deviations / max(_CONSISTENCY * np.median(deviations), 1e-12)


def suspicious_labels(patches: Sequence[Patch]) -> np.ndarray:
  """Classes whose patch is smaller than the others', by an index above 2.

  A class for which no patch was found has no size to compare. With two classes
  only, both are equally far from the median: neither is found.

  Args:
    patches: one for each class.
  """
  works = [n for n, patch in enumerate(patches) if patch.success >= _SUCCESS]
  sizes = np.array([patches[n].size for n in works])
  if not works:
    return np.array([], int)
  small = (anomaly_indices(sizes) > _OUTLIER) & (sizes < np.median(sizes))
  return np.array(works)[small]


def _patches(
  reverser: Reverser, classes: int, rounds: int, scratch: pathlib.Path
) -> list[Patch]:
  """A patch for each class; a restarted run reuses finished ones."""
  patches = []
  with progress_bar(classes * rounds, 'Neural Cleanse', 'round') as bar:
    for label in range(classes):
      path = scratch / f'patch{label:05d}.npz'
      if path.exists():
        bar.update(rounds)
      else:
        found = reverser.find(label, bar.update)
        files.write_arrays(path, found._asdict())
      arrays = files.read_arrays(path)
      size, success = float(arrays['size']), float(arrays['success'])
      patches.append(Patch(arrays['mask'], arrays['pattern'], size, success))
  return patches


@dataclasses.dataclass(frozen=True)
class NeuralCleanse(Repair):
  """Finds the trigger by its size, and makes the model unlearn it."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUSTED})

  rounds: int = setting(
    40, "Passes over the trusted pictures for each class's patch.", at_least=1
  )
  batch_size: int = setting(
    32, 'Trusted pictures at a time, over all devices.', at_least=1
  )
  stamped_share: float = setting(
    0.2,
    'The share of trusted pictures that carry the patch in unlearning.',
    at_least=0,
    at_most=1,
  )
  epochs: int = setting(10, 'Epochs of unlearning.', at_least=1)

  def repair(
    self, context: Context, classifier: NetworkClassifier
  ) -> tuple[NetworkClassifier, dict[str, Any]]:
    """The model after unlearning, and the patches of all classes."""
    trusted = context.trusted
    reverser = Reverser(
      Suspect(classifier.logits, classifier.whole, classifier.layers),
      trusted.images,
      rounds=self.rounds,
      batch_size=self.batch_size,
    )
    patches = _patches(
      reverser, classifier.num_classes, self.rounds, context.scratch
    )
    passes = self.rounds * len(patches)
    context.meter.count(passes * len(trusted), beforehand=True)
    labels = suspicious_labels(patches)
    sizes = np.array([patch.size for patch in patches])
    found = {
      'patch_sizes': sizes.tolist(),
      'success': [patch.success for patch in patches],
      'anomaly_indices': anomaly_indices(sizes).tolist(),
      'suspicious': [trusted.class_names[label] for label in labels],
    }
    if not len(labels):
      return classifier, found
    variables = fine_tune(
      context,
      classifier,
      context.recognition.inputs_of(self._stamped(context, patches, labels)),
      epochs=self.epochs,
      title='unlearning',
    )
    repaired = NetworkClassifier(
      context.recognition, variables, classifier.num_classes
    )
    return repaired, found

  def _stamped(
    self, context: Context, patches: list[Patch], labels: np.ndarray
  ) -> Float[np.ndarray, 'n h w 3']:
    """Trusted pictures in [0, 1], a share of them with each patch."""
    images = context.trusted.images.astype(np.float32) / 255
    rng = seeds.numpy_rng(context.seed, 'unlearning')
    for label in labels:
      rows = rng.random(len(images)) < self.stamped_share
      images[rows] = stamp(images[rows], *patches[label][:2])
    return images
