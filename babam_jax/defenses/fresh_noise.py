"""New noise on flagged pictures in every step of training, and less weight.

Algorithm 1 draws its noise once, and training sees the same noise in each
epoch. Here it is drawn anew, as DP-InstaHide (Borgnia et al. 2021) does for all
pictures; and a flagged picture may count less than others.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Need, Trainer
from babam_jax.settings import setting
from babam_jax.training.classifier import NetworkClassifier


def marked(
  images: UInt8[np.ndarray, 'n h w 3'], flags: Bool[np.ndarray, ' n']
) -> UInt8[np.ndarray, 'n h w 4']:
  """Pictures with a fourth channel: 255 if a picture is flagged, else 0."""
  channel = np.where(flags, 255, 0).astype(np.uint8)[:, None, None, None]
  channel = np.broadcast_to(channel, (*images.shape[:3], 1))
  return np.concatenate([images, channel], axis=-1)


def noised(
  images: Float[Array, 'n h w 4'], keys: Key[Array, ' n'], scale: float
) -> Float[Array, 'n h w 3']:
  """Laplacian noise on what is `marked`.

  Args:
    images: pixels and marks, in [0, 1].
    keys: one for each picture.
    scale: the scale of the noise, in gray levels.
  """
  pixels, marks = images[..., :-1], images[..., -1:]
  noise = jax.vmap(lambda key, image: jax.random.laplace(key, image.shape))(
    keys, pixels
  )
  return jnp.clip(pixels + scale / 255 * marks * noise, 0, 1)


@dataclasses.dataclass(frozen=True)
class FreshNoise(Trainer):
  """Trains with new Laplacian noise on flagged pictures in every step."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.FLAGS})

  scale: float = setting(
    35.0,
    "The scale of the noise on flagged pictures. Algorithm 1's is some 35 with "
    'an epsilon of 0.01.',
    unit='gray levels',
    at_least=0,
    at_most=1000,
  )
  weight: float = setting(
    1.0,
    'How much a flagged picture counts in the loss; others count 1.',
    above=0,
    at_most=1,
  )

  def fit(self, context: Context, examples: Examples) -> NetworkClassifier:
    """Trains one network, which then predicts like any other."""
    recognition, flags = context.recognition, context.flags
    if flags is None:
      raise ValueError('There are no flags.')
    classes = len(examples.class_names)
    network = recognition.recognizer(classes).network_on_pictures(
      context.seed,
      examples.labels,
      functools.partial(noised, scale=self.scale),
    )
    variables, _ = recognition.fit(
      network,
      marked(examples.images, flags),
      examples.labels,
      row_weights=np.where(flags, self.weight, 1),
      seed=context.seed,
      scratch=context.scratch,
      title='fresh noise',
      on_epoch=context.on_epoch,
    )
    return NetworkClassifier(recognition, variables, classes)
