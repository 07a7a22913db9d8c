"""RAP (Yang et al. 2021, "RAP: robustness-aware perturbations for defending
against backdoor attacks on NLP models"), carried over from words to pixels.

The defender learns one perturbation that makes the model a little less sure of
the protected class on its own pictures. A prediction that a trigger causes does
not become less sure: inputs that resist are taken for poison.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Need
from babam_jax.defenses.suspect import Suspect, Verdict
from babam_jax.progress import progress_bar
from babam_jax.settings import refuse, setting
from babam_jax.training import parallel

_DROP = (0.1, 0.3)  # of the protected class's probability (section 4.1)
_LEARNING_RATE = 0.01
_FLOOR = 0.01  # the lowest probability that is asked for
_PASSES = 2  # evaluations of a picture: without the perturbation, with it


class Drops(NamedTuple):
  """What the perturbation does to inputs.

  Attributes:
    before: the protected class's probability.
    drop: by how much it falls.
    protected: whether the model predicts that class without the perturbation.
  """

  before: Float[np.ndarray, ' n']
  drop: Float[np.ndarray, ' n']
  protected: np.ndarray


def learn(
  suspect: Suspect,
  trusted: UInt8[np.ndarray, 'n h w 3'],
  label: int,
  *,
  eps: float,
  steps: int,
  seed: int,
  on_step: Callable[[], object] = lambda: None,
) -> Float[np.ndarray, 'h w 3']:
  """Learns a perturbation: 0.1 to 0.3 less probability on trusted pictures.

  Args:
    suspect: the model.
    trusted: pictures of the protected class.
    label: the number of that class.
    eps: the largest change of a pixel, in gray levels.
    steps: steps of Adam, each on all pictures.
    seed: the seed of the initial perturbation.
  """
  rng = seeds.numpy_rng(seed, 'rap')
  start = rng.uniform(-1, 1, trusted.shape[1:]).astype(np.float32)
  tx = optax.adam(_LEARNING_RATE)

  def update(state, shared, rows):
    variables, label = shared
    images, weights = rows
    total = jax.lax.psum(weights.sum(), parallel.AXIS)

    def loss_fn(pattern):
      pixels = images / 255.0
      both = (pixels, jnp.clip(pixels + pattern * eps / 255, 0, 1))
      before, after = (
        _log_odds(suspect.logits(variables, x), label) for x in both
      )
      # In log odds: the probabilities of a sure model have no gradient.
      least, most = (
        jax.scipy.special.logit(jnp.maximum(jax.nn.sigmoid(before) - d, _FLOOR))
        for d in _DROP
      )
      outside = jnp.maximum(after - least, 0) + jnp.maximum(most - after, 0)
      return (outside * weights).sum() / total

    loss, gradient = jax.value_and_grad(loss_fn)(state['pattern'])
    loss, gradient = jax.lax.psum((loss, gradient), parallel.AXIS)
    change, opt_state = tx.update(gradient, state['opt_state'])
    pattern = jnp.clip(state['pattern'] + change, -1, 1)
    return {'pattern': pattern, 'opt_state': opt_state}, loss

  step = parallel.mapped_update(update, num_shared=1)
  batch = parallel.shard_padded(trusted, parallel.round_up(len(trusted)))
  shared = parallel.replicate((suspect.variables, np.int32(label)))
  start = start * 1e-2
  state = parallel.replicate({'pattern': start, 'opt_state': tx.init(start)})
  for _ in range(steps):
    state, _ = step(state, shared, batch)
    on_step()
  return np.asarray(jax.device_get(state['pattern'])) * np.float32(eps / 255)


def _log_odds(
  logits: Float[Array, 'n c'], label: Int[Array, '']
) -> Float[Array, ' n']:
  """The log-odds of one class against all others."""
  mine = jnp.arange(logits.shape[1]) == label
  others = jax.nn.logsumexp(jnp.where(mine, -jnp.inf, logits), axis=1)
  return logits[:, label] - others


def measure(
  suspect: Suspect,
  images: UInt8[np.ndarray, 'n h w 3'],
  pattern: Float[np.ndarray, 'h w 3'],
  label: int,
  batch_size: int,
  on_batch: Callable[[int], object] = lambda rows: None,
) -> Drops:
  """What the perturbation does to inputs."""

  def of_rows(shared, images):
    variables, pattern, label = shared
    images = images / 255.0
    logits = suspect.logits(variables, images)
    before = jax.nn.softmax(logits)[:, label]
    changed = suspect.logits(variables, jnp.clip(images + pattern, 0, 1))
    drop = before - jax.nn.softmax(changed)[:, label]
    said = logits.argmax(1) == label
    return jnp.stack([before, drop, said.astype(drop.dtype)], 1)

  found = parallel.map_batches(
    parallel.mapped(of_rows, 1, 1),
    (suspect.variables, pattern, np.int32(label)),
    (images,),
    batch_size,
    on_batch,
  )
  return Drops(found[:, 0], found[:, 1], found[:, 2] > 0)


def judge(inputs: Drops, trusted: Drops, *, false_rejections: float) -> Verdict:
  """Flags inputs of the protected class that lose less than trusted pictures.

  Args:
    inputs: what the perturbation does to the inputs.
    trusted: the same for trusted pictures of the protected class.
    false_rejections: the share of trusted pictures that may be flagged.
  """
  known = trusted.drop[trusted.protected]
  threshold = np.quantile(known, false_rejections) if len(known) else -np.inf
  # What is not taken for the protected class is no success of the attacker.
  scores = np.where(inputs.protected, -inputs.drop, -1.0)
  return Verdict(scores, inputs.protected & (inputs.drop < threshold))


@dataclasses.dataclass(frozen=True)
class Rap(Detector):
  """Flags pictures of the victim's class that resist a perturbation."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.MODEL, Need.TRUSTED})
  judges_inputs: ClassVar[bool] = True

  eps: float = setting(
    16.0, 'The largest change of a pixel.', unit='gray levels', above=0
  )
  steps: int = setting(
    100, 'Steps of Adam in which the perturbation is learned.', at_least=1
  )
  false_rejections: float = setting(
    0.01,
    'The share of trusted pictures that may be flagged.',
    at_least=0,
    at_most=1,
  )

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Scores by how little the perturbation lowers the victim's probability."""
    suspect, label = context.suspect, context.victim
    trusted = context.trusted
    known = trusted.images[trusted.labels == label]
    if not len(known):
      refuse(
        'scenario.trusted_fraction',
        0,
        'a trusted picture of the victim, whom RAP protects',
        'Raise it, or lower config.scenario.poison_images.',
      )
    size = context.recognition.batch_size
    with progress_bar(self.steps, 'RAP: learning', 'step') as bar:
      pattern = learn(
        suspect,
        known,
        label,
        eps=self.eps,
        steps=self.steps,
        seed=context.seed,
        on_step=bar.update,
      )
    with progress_bar(len(pictures), 'RAP', 'img') as bar:
      drops = measure(
        suspect, pictures.images, pattern, label, size, bar.update
      )
    of_known = measure(suspect, known, pattern, label, size)
    context.meter.count(_PASSES * len(pictures))
    context.meter.count(_PASSES * len(known) * (self.steps + 1), True)
    return judge(drops, of_known, false_rejections=self.false_rejections)
