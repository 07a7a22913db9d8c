"""Algorithm 1: Laplacian noise calibrated to an image's place in its class.

For class k: mean image m over all its training images; distance d_i of image i
to m; sensitivity s_i = d_i / max d in [0, 1]; each pixel and channel of a
flagged image receives Laplace(0, s_i / epsilon) noise, in grey levels of
0..255, and is clipped to that range.

The statistics take two passes over chunks of `Examples`, so memory does not
grow with the data set.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, Key, UInt8, UInt32

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.training import parallel

MODES = ('laplace', 'released')
DISTANCES = ('squared', 'euclidean')
Chunks = Callable[[], Iterable[Examples]]  # called once for each pass
CHUNK_ROWS = 256


class ClassStatistics(NamedTuple):
  """What Algorithm 1 needs to know of the classes.

  Attributes:
    means: the mean image of each class, 0..255.
    max_distances: the largest distance of an image to its class's mean; 0 for
      a class without images or with identical ones.
  """

  means: Float32[np.ndarray, 'c h w 3']
  max_distances: Float32[np.ndarray, ' c']


def in_chunks(examples: Examples, rows: int = CHUNK_ROWS) -> Chunks:
  """Walks over examples in memory, as often as asked."""

  def chunks() -> Iterator[Examples]:
    for start in range(0, len(examples), rows):
      yield examples.take(np.arange(start, min(start + rows, len(examples))))

  return chunks


def distances(
  images: UInt8[Array, 'n h w 3'],
  labels: Int32[Array, ' n'],
  means: Float[Array, 'c h w 3'],
  kind: str,
) -> Float[Array, ' n']:
  """Distance of each image to its class's mean: lines 3 and 4.

  Args:
    images: grey levels 0..255.
    labels: their classes.
    means: the classes' mean images.
    kind: 'squared': sum of squares over pixels; 'euclidean': its root.
  """
  squares = jnp.sum((images - means[labels]) ** 2, axis=(1, 2, 3))
  return jnp.sqrt(squares) if kind == 'euclidean' else squares


def class_statistics(
  chunks: Chunks, num_classes: int, kind: str
) -> ClassStatistics:
  """Mean images and largest distances of all classes: lines 2 to 5."""
  sums, counts = None, np.zeros(num_classes)
  for chunk in chunks():
    if sums is None:
      sums = np.zeros((num_classes, *chunk.images.shape[1:]))
    # Sums of whole numbers below 2**53: exact, in whatever order.
    np.add.at(counts, chunk.labels, 1)
    for label in np.unique(chunk.labels):
      sums[label] += chunk.images[chunk.labels == label].sum(0, np.int64)
  divisors = np.maximum(counts, 1)[:, None, None, None]
  means = (sums / divisors).astype(np.float32)

  measure = parallel.mapped(
    lambda means, images, labels: distances(images, labels, means, kind), 1, 2
  )
  largest = np.zeros(num_classes, np.float32)
  for chunk in chunks():
    found = parallel.map_batches(
      measure, means, (chunk.images, chunk.labels), CHUNK_ROWS
    )
    np.maximum.at(largest, chunk.labels, found)
  return ClassStatistics(means, largest)


def _laplace(
  key: Key[Array, ''],
  image: UInt8[Array, 'h w 3'],
  scale: Float[Array, ''],
) -> UInt8[Array, 'h w 3']:
  """The mechanism of the paper: additive, in floating point, clipped."""
  noise = scale * jax.random.laplace(key, image.shape)
  return jnp.clip(jnp.rint(image + noise), 0, 255).astype(jnp.uint8)


def _released(
  key: Key[Array, ''],
  image: UInt8[Array, 'h w 3'],
  scale: Float[Array, ''],
) -> UInt8[Array, 'h w 3']:
  """The arithmetic of the released script.

  The noise is cast to uint8 and so wraps; then x + x * noise wraps again. It
  is multiplicative, and destroys the picture.
  """
  noise = (scale * jax.random.laplace(key, image.shape)).astype(jnp.int32)
  return (image + image * noise).astype(jnp.uint8)  # modulo 256


def _perturb_rows(
  shared: tuple[Array, Array, Array, Array],
  images: UInt8[Array, 'n h w 3'],
  labels: Int32[Array, ' n'],
  hashes: UInt32[Array, ' n'],
  kind: str,
  mode: str,
) -> UInt8[Array, 'n h w 3']:
  means, max_distances, epsilon, key = shared
  largest = max_distances[labels]
  # A class of one image, or of identical ones, has sensitivity 0.
  sensitivity = jnp.where(
    largest > 0,
    distances(images, labels, means, kind) / jnp.where(largest > 0, largest, 1),
    0,
  )
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, hashes)
  mechanism = {'laplace': _laplace, 'released': _released}[mode]
  return jax.vmap(mechanism)(keys, images, sensitivity / epsilon)


def perturb(
  flagged: Examples,
  statistics: ClassStatistics,
  *,
  epsilon: float,
  kind: str,
  mode: str,
  seed: int,
) -> UInt8[np.ndarray, 'n h w 3']:
  """Lines 6 to 8, for all flagged images at once.

  An image's noise depends on its id, not on its place in the batch.

  Args:
    flagged: the images to perturb.
    statistics: of their classes, over the whole untrusted training set.
    epsilon: the budget; a lower one gives more noise.
    kind: one of `DISTANCES`.
    mode: one of `MODES`.
    seed: of the experiment.
  """
  if not len(flagged):
    return flagged.images
  rows = parallel.mapped(
    lambda shared, *rows: _perturb_rows(shared, *rows, kind, mode), 1, 3
  )
  shared = (
    statistics.means,
    statistics.max_distances,
    np.float32(epsilon),
    seeds.jax_key(seed, 'noise'),
  )
  inputs = (flagged.images, flagged.labels, seeds.id_hashes(flagged.ids))
  return parallel.map_batches(rows, shared, inputs, CHUNK_ROWS)
