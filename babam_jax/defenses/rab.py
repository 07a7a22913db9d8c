"""RAB (Weber et al. 2023, "RAB: provable robustness against backdoor attacks").

Many models, each trained on the pictures with its own noise; their mean
prediction cannot change as long as trigger and poison are small against the
noise.
"""

import dataclasses
import hashlib
import pathlib
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped, UInt8
from scipy import special

from babam_jax import files, seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Trainer
from babam_jax.progress import say
from babam_jax.settings import setting
from babam_jax.training.classifier import (
  Logits,
  NetworkClassifier,
  load_network,
)
from babam_jax.training.recognition import Recognition
from babam_jax.training.recognizer import flatten


def noised(
  images: UInt8[np.ndarray, 'n h w 3'], sigma: float, seed: int, name: str
) -> Float[np.ndarray, 'n h w 3']:
  """Pixels in [0, 1] plus Gaussian noise: one draw for each picture.

  Args:
    images: gray levels.
    sigma: the noise's standard deviation, for pixels in [0, 1].
    seed: the seed of the run.
    name: the random stream of the noise.
  """
  rng = seeds.numpy_rng(seed, name)
  noise = rng.standard_normal(images.shape, np.float32)
  return images.astype(np.float32) / 255 + np.float32(sigma) * noise


def input_noise(
  shape: tuple[int, ...], sigma: float, variables: PyTree
) -> Float[np.ndarray, 'h w 3']:
  """The noise that a trained model adds to all its inputs.

  Its seed is a hash of the model's parameters (section 5.2), so that a model
  always gives the same answer.
  """
  total = hashlib.sha256()
  for name, value in sorted(flatten(variables).items()):
    total.update(name.encode() + np.ascontiguousarray(value).tobytes())
  rng = np.random.default_rng(int.from_bytes(total.digest()[:8], 'little'))
  return np.float32(sigma) * rng.standard_normal(shape, np.float32)


def certify(
  probabilities: Float[np.ndarray, 'n c'],
  num_models: int,
  *,
  sigma: float,
  alpha: float,
) -> tuple[Int[np.ndarray, ' n'], Float[np.ndarray, ' n']]:
  """Predictions, and how much trigger and poison they withstand.

  Args:
    probabilities: the mean over the models.
    num_models: the number of models.
    sigma: the noise's standard deviation, for pixels in [0, 1].
    alpha: the probability that a certificate is wrong.

  Returns:
    The class, and the radius in the L2 norm of all changes of the training
    set and the input together, on the scale of 0 to 1 (corollary 1); 0 where
    nothing is certified.
  """
  # Hoeffding's bound for all classes at once: which two are compared is not
  # known before.
  errors = alpha / probabilities.shape[1]
  slack = np.sqrt(np.log(1 / errors) / (2 * num_models))
  ranked = np.sort(probabilities, axis=1)
  lower = np.clip(ranked[:, -1] - slack, 0, 1)
  upper = np.clip(ranked[:, -2] + slack, 0, 1)
  sure = lower > upper
  radius = np.zeros(len(probabilities))
  difference = special.ndtri(lower[sure]) - special.ndtri(upper[sure])
  radius[sure] = sigma / 2 * difference
  return probabilities.argmax(1), radius


def certified_accuracy(
  predicted: Int[np.ndarray, ' n'],
  radius: Float[np.ndarray, ' n'],
  labels: Shaped[np.ndarray, ' n'],
  radii: tuple[float, ...],
) -> dict[str, float]:
  """The share of inputs that are right and certified, for each radius."""
  right = predicted == labels
  return {
    f'{least:g}': float(np.mean(right & (radius >= least) & (radius > 0)))
    for least in radii
  }


class NoisedEnsemble:
  """Many models, each with its own noise for all inputs.

  Args:
    rab: the settings.
    recognition: how the models are fed.
    folder: the folder of the models, each in a folder of its own.
    num_classes: the number of people that they tell apart.
  """

  def __init__(
    self,
    rab: 'Rab',
    recognition: Recognition,
    folder: pathlib.Path,
    num_classes: int,
  ):
    self._rab = rab
    self._recognition = recognition
    self._folder = folder
    self._num_classes = num_classes
    self.passes = rab.models

  def predict(self, pictures: Examples) -> Logits:
    """The mean probabilities of all models; one is in memory at a time."""
    found = [
      self._probabilities(number, pictures.images)
      for number in range(self._rab.models)
    ]
    return np.mean(found, axis=0)

  def _probabilities(
    self, number: int, images: UInt8[np.ndarray, 'n h w 3']
  ) -> Logits:
    member = load_network(
      self._recognition, _member(self._folder, number), self._num_classes
    )
    noise = input_noise(images.shape[1:], self._rab.sigma, member.variables)
    inputs = self._recognition.inputs_in_chunks(
      len(images), lambda rows: images[rows].astype(np.float32) / 255 + noise
    )
    return np.asarray(jax.nn.softmax(member.predict_inputs(inputs)))

  def findings(
    self, predicted: Logits, labels: Shaped[np.ndarray, ' n']
  ) -> dict[str, Any]:
    """The share of pictures that are right and certified, by radius."""
    rab = self._rab
    classes, radius = certify(
      predicted, rab.models, sigma=rab.sigma, alpha=rab.alpha
    )
    found = certified_accuracy(classes, radius, labels, rab.radii)
    return {'certified_accuracy': found}

  def save(self, folder: pathlib.Path) -> None:
    """Copies all models into a folder."""
    for number in range(self._rab.models):
      load_network(
        self._recognition, _member(self._folder, number), self._num_classes
      ).save(_member(folder, number))


@dataclasses.dataclass(frozen=True)
class Rab(Trainer):
  """Trains an ensemble on noised pictures."""

  gives_network: ClassVar[bool] = False
  decided_later: ClassVar[frozenset[str]] = frozenset({'alpha', 'radii'})

  models: int = setting(
    10,
    'The number of models; the paper has 1,000, a certificate needs hundreds.',
    at_least=1,
  )
  sigma: float = setting(
    0.2, "The noise's standard deviation, for pixels in [0, 1].", above=0
  )
  alpha: float = setting(
    0.001, 'The probability that a certificate is wrong.', above=0, below=1
  )
  radii: tuple[float, ...] = setting(
    (0.0, 0.05, 0.1, 0.2, 0.5, 1.0),
    'The radii at which the accuracy is certified, in the L2 norm.',
    each=(float, int),
  )

  def fit(self, context: Context, examples: Examples) -> NoisedEnsemble:
    """Trains one model after another; a restarted run reuses finished ones."""
    classes = len(examples.class_names)
    for number in range(self.models):
      folder = _member(context.scratch, number)
      if not (folder / 'done').exists():
        say(f'RAB: model {number + 1} of {self.models}')
        self._train(context, number, examples).save(folder)
        files.write_text(folder / 'done', '')
    return NoisedEnsemble(self, context.recognition, context.scratch, classes)

  def _train(
    self, context: Context, number: int, examples: Examples
  ) -> NetworkClassifier:
    """One of the models, on pictures with noise of its own."""
    recognition = context.recognition
    seed = seeds.child_seed(context.seed, f'rab/{number}')

    def noised_pictures(rows: slice) -> Float[np.ndarray, 'n h w 3']:
      stream = f'noise/{rows.start}'
      return noised(examples.images[rows], self.sigma, seed, stream)

    classes = len(examples.class_names)
    untrained = recognition.recognizer(classes).network(
      context.seed, examples.labels
    )
    variables, _ = recognition.fit(
      untrained,
      recognition.inputs_in_chunks(len(examples), noised_pictures),
      examples.labels,
      seed=seed,
      scratch=context.scratch / f'training{number:05d}',
      title='training a RAB model',
    )
    return NetworkClassifier(recognition, variables, classes)

  def load(
    self, recognition: Recognition, folder: pathlib.Path, num_classes: int
  ) -> NoisedEnsemble:
    """The models in a folder."""
    return NoisedEnsemble(self, recognition, folder, num_classes)


def _member(folder: pathlib.Path, number: int) -> pathlib.Path:
  return folder / f'member{number:05d}'
