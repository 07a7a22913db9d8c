"""STRIP (Gao et al. 2019, "STRIP: a defence against trojan attacks on deep
neural networks").

Other pictures are laid over an input. Where a trigger decides, the prediction
hardly changes: its entropy over many overlays is low.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Need
from babam_jax.defenses.suspect import Suspect, Verdict
from babam_jax.progress import progress_bar
from babam_jax.settings import setting
from babam_jax.training import parallel

_ROWS_PER_STEP = 64  # overlaid pictures, on each device


def entropies(
  suspect: Suspect,
  images: UInt8[np.ndarray, 'n h w 3'],
  overlays: UInt8[np.ndarray, 'm h w 3'],
  *,
  count: int,
  weight: float,
  seed: int,
  on_batch: Callable[[int], object] = lambda rows: None,
) -> Float[np.ndarray, ' n']:
  """The mean entropy of each picture's predictions, in bits (Eq. 3).

  Args:
    suspect: the model.
    images: the inputs.
    overlays: trusted pictures.
    count: how many of them are laid over each input, drawn with replacement.
    weight: the weight of input and overlay: 1 is their sum, as in the paper,
      0.5 their mean.
    seed: the seed of the draw.
    on_batch: called with the number of inputs done.
  """
  rng = seeds.numpy_rng(seed, 'strip')
  picks = rng.integers(len(overlays), size=(len(images), count), dtype=np.int32)

  def of_rows(shared, images, picks):
    variables, overlays = shared
    laid = (
      weight / 255 * (images[:, None] + overlays[picks].astype(jnp.float32))
    )
    logits = suspect.logits(variables, laid.reshape(-1, *images.shape[1:]))
    logs = jax.nn.log_softmax(logits)
    entropy = -jnp.sum(jnp.exp(logs) * logs, axis=1) / jnp.log(2)
    return entropy.reshape(picks.shape).mean(1)

  rows = max(1, _ROWS_PER_STEP // count) * parallel.num_devices()
  return parallel.map_batches(
    parallel.mapped(of_rows, 1, 2),
    (suspect.variables, overlays),
    (images, picks),
    rows,
    on_batch,
  )


def judge(
  entropy: Float[np.ndarray, ' n'],
  trusted: Float[np.ndarray, ' m'],
  *,
  false_rejections: float,
) -> Verdict:
  """Flags inputs that are less uncertain than trusted pictures (section 4.4).

  The paper fits a normal distribution to the entropies of trusted pictures. If
  the model is confident, these pile up near 0, and the distribution's quantile
  lies below 0: nothing would ever be flagged. So here their own quantile is
  the threshold.

  Args:
    entropy: the entropies of the inputs.
    trusted: those of trusted pictures.
    false_rejections: the share of trusted pictures that may be flagged.
  """
  threshold = np.quantile(trusted, false_rejections)
  return Verdict(-entropy, entropy <= threshold)


@dataclasses.dataclass(frozen=True)
class Strip(Detector):
  """Flags pictures whose prediction stays sure under other pictures."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.MODEL, Need.TRUSTED})
  judges_inputs: ClassVar[bool] = True

  overlays: int = setting(
    100, 'Trusted pictures that are laid over each input.', at_least=1
  )
  weight: float = setting(
    1.0,
    'The weight of input and overlay: 1 is their sum, 0.5 their mean.',
    above=0,
  )
  false_rejections: float = setting(
    0.01,
    'The share of trusted pictures that may be flagged.',
    at_least=0,
    at_most=1,
  )

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Scores by entropy; that of trusted pictures sets the threshold."""
    trusted = context.trusted
    suspect = context.suspect
    with progress_bar(len(pictures) + len(trusted), 'STRIP', 'img') as bar:

      def measure(
        images: UInt8[np.ndarray, 'm h w 3'],
      ) -> Float[np.ndarray, ' m']:
        return entropies(
          suspect,
          images,
          trusted.images,
          count=self.overlays,
          weight=self.weight,
          seed=context.seed,
          on_batch=bar.update,
        )

      found, known = measure(pictures.images), measure(trusted.images)
    context.meter.count(self.overlays * len(pictures))
    context.meter.count(self.overlays * len(trusted), beforehand=True)
    return judge(found, known, false_rejections=self.false_rejections)
