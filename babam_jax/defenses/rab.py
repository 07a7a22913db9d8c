"""RAB (Weber et al. 2023, "RAB: provable robustness against backdoor attacks").

Many models, each trained on the pictures with noise of its own; their mean
prediction cannot change as long as trigger and poison are small against the
noise.
"""

import hashlib

import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped, UInt8
from scipy import stats

from babam_jax import seeds
from babam_jax.training.recognizer import flatten


def noised(
  images: UInt8[np.ndarray, 'n h w 3'], sigma: float, seed: int, name: str
) -> Float[np.ndarray, 'n h w 3']:
  """Pixels in [0, 1] plus Gaussian noise: one draw for each picture.

  Args:
    images: gray levels.
    sigma: of the noise, on the scale of 0 to 1.
    seed: of the run.
    name: of the draw.
  """
  rng = seeds.numpy_rng(seed, name)
  noise = rng.standard_normal(images.shape, np.float32)
  return images.astype(np.float32) / 255 + np.float32(sigma) * noise


def input_noise(
  shape: tuple[int, ...], sigma: float, variables: PyTree
) -> Float[np.ndarray, 'h w 3']:
  """The one noise that a trained model adds to all inputs.

  It is drawn by the hash of the model's parameters (section 5.2), so that a
  model always answers the same.
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
    num_models: how many they are.
    sigma: of the noise.
    alpha: the probability that a certificate is wrong.

  Returns:
    The class, and the radius in the L2 norm of all changes of the training
    set and the input together, on the scale of 0 to 1 (corollary 1); 0 where
    nothing can be said.
  """
  # Hoeffding, for all classes at once: which two are compared is not known
  # before.
  errors = alpha / probabilities.shape[1]
  slack = np.sqrt(np.log(1 / errors) / (2 * num_models))
  ranked = np.sort(probabilities, axis=1)
  lower = np.clip(ranked[:, -1] - slack, 0, 1)
  upper = np.clip(ranked[:, -2] + slack, 0, 1)
  sure = lower > upper
  radius = np.zeros(len(probabilities))
  difference = stats.norm.ppf(lower[sure]) - stats.norm.ppf(upper[sure])
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
