"""DP-InstaHide (Borgnia et al. 2021, "DP-InstaHide: provably defusing poisoning
and backdoor attacks with differentially private data augmentations").

In every step each picture and its label are mixed with k - 1 others of the
batch, and Laplacian noise is added.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Trainer
from babam_jax.settings import setting
from babam_jax.training import parallel
from babam_jax.training.classifier import NetworkClassifier
from babam_jax.training.recognizer import Recognizer
from babam_jax.training.train import Network


def network(
  recognizer: Recognizer,
  labels: Int32[np.ndarray, ' n'],
  *,
  ways: int,
  scale: float,
  seed: int,
) -> Network:
  """A recognizer that trains on mixed and noised pictures.

  Pictures are mixed with equal weights, 1 / k, within each device. The
  loss of a mixture is the mean over the labels in it.

  Args:
    recognizer: the recognizer to train.
    labels: the labels of the training set.
    ways: k, the pictures in a mixture.
    scale: the scale of the noise, in gray levels.
    seed: the seed of the initial parameters.
  """

  def mix(images, keys):
    noise = jax.vmap(lambda key, image: jax.random.laplace(key, image.shape))(
      keys, images
    )
    # Batches are in random order: neighbors are as good as any others.
    mixed = sum(jnp.roll(images, shift, axis=0) for shift in range(ways)) / ways
    return jnp.clip(mixed + scale / 255 * noise, 0, 1)

  plain = recognizer.network_on_pictures(seed, labels, mix)

  def apply(params, stats, frozen, images, keys, weights):
    heads, stats = plain.apply(params, stats, frozen, images, keys, weights)
    # Picture i is in mixtures i to i + k - 1: its label is in their losses.
    shifted = [
      jnp.roll(head, -shift, axis=0) for head in heads for shift in range(ways)
    ]
    return tuple(shifted), stats

  loss_weights = tuple(
    weight / ways for weight in plain.loss_weights for _ in range(ways)
  )
  return plain._replace(apply=apply, loss_weights=loss_weights)


@dataclasses.dataclass(frozen=True)
class DpInstaHide(Trainer):
  """Trains on mixed and noised pictures."""

  version: ClassVar[int] = 2

  ways: int = setting(4, 'Pictures in a mixture.', at_least=1)
  scale: float = setting(
    16.0, 'The scale of the Laplacian noise.', unit='gray levels', at_least=0
  )

  def facts(self, field: str) -> dict[str, Any]:
    """The number of devices, within each of which pictures are mixed."""
    return super().facts(field) | {'devices': parallel.num_devices()}

  def fit(self, context: Context, examples: Examples) -> NetworkClassifier:
    """Trains one network, which then predicts like any other."""
    recognition = context.recognition
    classes = len(examples.class_names)
    mixing = network(
      recognition.recognizer(classes),
      examples.labels,
      ways=self.ways,
      scale=self.scale,
      seed=context.seed,
    )
    variables, _ = recognition.fit(
      mixing,
      examples.images,
      examples.labels,
      seed=context.seed,
      scratch=context.scratch,
      title='DP-InstaHide',
      on_epoch=context.on_epoch,
    )
    return NetworkClassifier(recognition, variables, classes)
