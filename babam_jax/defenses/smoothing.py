"""Randomized smoothing of inputs (Cohen et al. 2019, "Certified adversarial
robustness via randomized smoothing").

The model trains on pictures with Gaussian noise, new in every step; at test
time noisy copies of an input vote. This is the half of Wang et al.
2020 ("On certifying robustness against backdoor attacks via randomized
smoothing") that deals with inputs; they also add new noise to the training
set of each of many models, as `rab` does.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, Shaped, UInt8

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Trainer
from babam_jax.defenses.suspect import Suspect
from babam_jax.progress import progress_bar
from babam_jax.settings import setting
from babam_jax.training import parallel
from babam_jax.training.classifier import (
  Logits,
  NetworkClassifier,
  load_network,
)
from babam_jax.training.recognition import Recognition
from babam_jax.training.recognizer import Recognizer
from babam_jax.training.train import Network


def network(
  recognizer: Recognizer,
  labels: Int32[np.ndarray, ' n'],
  *,
  sigma: float,
  seed: int,
) -> Network:
  """A recognizer that trains on noised pictures.

  Args:
    recognizer: the recognizer to train.
    labels: the labels of the training set.
    sigma: the noise's standard deviation, for pixels in [0, 1].
    seed: the seed of the initial parameters.
  """

  def add_noise(images, keys):
    noise = jax.vmap(lambda key, image: jax.random.normal(key, image.shape))
    return images + sigma * noise(keys, images)

  return recognizer.network_on_pictures(seed, labels, add_noise)


def votes(
  suspect: Suspect,
  images: UInt8[np.ndarray, 'n h w 3'],
  *,
  sigma: float,
  samples: int,
  seed: int,
  batch_size: int,
  on_batch: Callable[[int], object] = lambda rows: None,
) -> Float[np.ndarray, 'n c']:
  """The share of noisy copies of each input that are taken for each class.

  Args:
    suspect: a model that was trained with noise.
    images: the inputs.
    sigma: the noise's standard deviation, for pixels in [0, 1].
    samples: copies of each input.
    seed: the seed of the noise.
    batch_size: inputs at a time, over all devices.
    on_batch: called with the number of inputs done.
  """

  def of_rows(shared, images, numbers):
    variables, key = shared
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)

    def vote(total, sample):
      noise = jax.vmap(
        lambda key, image: jax.random.normal(
          jax.random.fold_in(key, sample), image.shape
        )
      )(keys, images)
      logits = suspect.logits(variables, images / 255.0 + sigma * noise)
      return total + jax.nn.one_hot(logits.argmax(1), logits.shape[1]), None

    classes = jax.eval_shape(
      suspect.logits, variables, images.astype(jnp.float32)
    ).shape[1]
    start = jnp.zeros((len(images), classes))
    total, _ = jax.lax.scan(vote, start, jnp.arange(samples))
    return total / samples

  numbers = np.arange(len(images), dtype=np.int32)
  return parallel.map_batches(
    parallel.mapped(of_rows, 1, 2),
    (suspect.variables, seeds.jax_key(seed, 'smoothing')),
    (images, numbers),
    batch_size,
    on_batch,
  )


class VotingClassifier:
  """A model in which noisy copies of an input vote.

  Args:
    network: the network, trained with noise.
    sigma: the noise's standard deviation, for pixels in [0, 1].
    passes: copies of each input that vote.
  """

  def __init__(self, network: NetworkClassifier, sigma: float, passes: int):
    self._network = network
    self._sigma = sigma
    self.passes = passes

  def predict(self, pictures: Examples) -> Logits:
    """The shares of the votes."""
    network = self._network
    with progress_bar(len(pictures), 'smoothing: votes', 'img') as bar:
      return votes(
        Suspect(network.logits, network.whole, network.layers),
        pictures.images,
        sigma=self._sigma,
        samples=self.passes,
        seed=network.recognition.seed,
        batch_size=network.recognition.batch_size,
        on_batch=bar.update,
      )

  def findings(
    self, predicted: Logits, labels: Shaped[np.ndarray, ' n']
  ) -> dict[str, Any]:
    """None: a vote has no further figures."""
    return self._network.findings(predicted, labels)

  def save(self, folder: pathlib.Path) -> None:
    """Writes its network."""
    self._network.save(folder)


@dataclasses.dataclass(frozen=True)
class Smoothing(Trainer):
  """Trains on noised pictures; noisy copies of an input vote."""

  gives_network: ClassVar[bool] = False
  decided_later: ClassVar[frozenset[str]] = frozenset({'samples'})

  sigma: float = setting(
    0.25, "The noise's standard deviation, for pixels in [0, 1].", above=0
  )
  samples: int = setting(
    25, 'Noisy copies of each input that vote.', at_least=1
  )

  def fit(self, context: Context, examples: Examples) -> VotingClassifier:
    """Trains one network, which then answers by vote."""
    recognition = context.recognition
    classes = len(examples.class_names)
    noised = network(
      recognition.recognizer(classes),
      examples.labels,
      sigma=self.sigma,
      seed=context.seed,
    )
    variables, _ = recognition.fit(
      noised,
      examples.images,
      examples.labels,
      seed=context.seed,
      scratch=context.scratch,
      title='smoothing',
      on_epoch=context.on_epoch,
    )
    return self._asked(NetworkClassifier(recognition, variables, classes))

  def load(
    self, recognition: Recognition, folder: pathlib.Path, num_classes: int
  ) -> VotingClassifier:
    """Reads its network."""
    return self._asked(load_network(recognition, folder, num_classes))

  def _asked(self, trained: NetworkClassifier) -> VotingClassifier:
    return VotingClassifier(trained, self.sigma, self.samples)
