"""Algorithm 1: Laplacian noise calibrated to an image's place in its class.

For class k: mean image m over all its training images; distance d_i of image i
to m; sensitivity s_i = d_i / max d in [0, 1]; each pixel and channel of a
flagged image receives Laplace(0, s_i / epsilon) noise, in grey levels of
0..255, and is clipped to that range.

The statistics take two passes over chunks of `Examples`, so memory does not
grow with the data set.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, UInt8

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defense import laplace
from babam_jax.training import parallel

MODES = ('laplace', 'released')
DISTANCES = ('squared', 'euclidean')
Chunks = Callable[[], Iterable[Examples]]  # called once for each pass
CHUNK_ROWS = 256


class ClassStatistics(NamedTuple):
  """What Algorithm 1 needs to know of some classes.

  Attributes:
    classes: their numbers, ascending.
    means: the mean image of each, 0..255.
    max_distances: the largest distance of an image to its class's mean; 0 for
      a class without images or with identical ones.
  """

  classes: Int32[np.ndarray, ' c']
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
  places: Int32[Array, ' n'],
  means: Float[Array, 'c h w 3'],
  kind: str,
) -> Float[Array, ' n']:
  """Distance of each image to its class's mean: lines 3 and 4.

  Args:
    images: grey levels 0..255.
    places: each one's class among the means.
    means: the classes' mean images.
    kind: 'squared': sum of squares over pixels; 'euclidean': its root.
  """
  squares = jnp.sum((images - means[places]) ** 2, axis=(1, 2, 3))
  return jnp.sqrt(squares) if kind == 'euclidean' else squares


def _of_classes(
  chunks: Chunks, classes: Int32[np.ndarray, ' c']
) -> Iterator[tuple[UInt8[np.ndarray, 'n h w 3'], Int32[np.ndarray, ' n']]]:
  """The images of these classes, and each one's place among `classes`."""
  for chunk in chunks():
    wanted = np.isin(chunk.labels, classes)
    if wanted.any():
      images = chunk.images if wanted.all() else chunk.images[wanted]
      places = np.searchsorted(classes, chunk.labels[wanted])
      yield images, places.astype(np.int32)


def class_statistics(
  chunks: Chunks, classes: Int32[np.ndarray, ' c'], kind: str
) -> ClassStatistics:
  """Mean images and largest distances of classes: lines 2 to 5.

  Args:
    chunks: all images, these classes' among them; walked over twice.
    classes: the numbers of the classes, ascending.
    kind: one of `DISTANCES`.
  """
  counts = np.zeros(len(classes))
  sums: np.ndarray | None = None
  for images, places in _of_classes(chunks, classes):
    if sums is None:
      sums = np.zeros((len(classes), *images.shape[1:]))
    counts += np.bincount(places, minlength=len(classes))
    # Sums of whole numbers below 2**53: exact, in whatever order.
    for place in np.unique(places):
      mine = places == place
      members = images if mine.all() else images[mine]
      sums[place] += members.sum(0, np.uint32)
  if sums is None:
    raise ValueError('There are no images of these classes.')
  sums /= np.maximum(counts, 1)[:, None, None, None]
  means = sums.astype(np.float32)

  largest = np.zeros(len(classes), np.float32)
  on_devices = parallel.replicate(means)
  for images, places in _of_classes(chunks, classes):
    found = parallel.map_batches(
      _distance_kernel(kind), on_devices, (images, places), CHUNK_ROWS
    )
    np.maximum.at(largest, places, found)
  return ClassStatistics(np.asarray(classes), means, largest)


@functools.cache
def _distance_kernel(kind: str) -> Callable[..., Array]:
  return parallel.mapped(
    lambda means, images, places: distances(images, places, means, kind), 1, 2
  )


def _add(
  pixels: UInt8[Array, 'n m'], noise: Float[Array, 'n m']
) -> UInt8[Array, 'n m']:
  """The mechanism of the paper: additive, in floating point, clipped."""
  return jnp.clip(jnp.rint(pixels + noise), 0, 255).astype(jnp.uint8)


def _wrap(
  pixels: UInt8[Array, 'n m'], noise: Float[Array, 'n m']
) -> UInt8[Array, 'n m']:
  """The arithmetic of the released script.

  The noise is cast to uint8 and so wraps; then x + x * noise wraps again. It
  is multiplicative, and destroys the picture.
  """
  pixels = pixels.astype(jnp.int32)
  return (pixels + pixels * noise.astype(jnp.int32)).astype(jnp.uint8)


@functools.cache
def _perturbation_kernel(kind: str, mode: str) -> Callable[..., Array]:
  mechanism = {'laplace': _add, 'released': _wrap}[mode]

  def perturb_rows(shared, images, places, hashes):
    means, max_distances, epsilon, key = shared
    largest = max_distances[places]
    # A class of one image, or of identical ones, has sensitivity 0.
    sensitivity = jnp.where(
      largest > 0,
      distances(images, places, means, kind)
      / jnp.where(largest > 0, largest, 1),
      0,
    )
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, hashes)
    return laplace.apply(
      mechanism, jax.random.key_data(keys), images, sensitivity / epsilon
    )

  return parallel.mapped(perturb_rows, 1, 3)


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
    statistics: of their classes at least, over the whole untrusted set.
    epsilon: the budget; a lower one gives more noise.
    kind: one of `DISTANCES`.
    mode: one of `MODES`.
    seed: of the experiment.
  """
  if not len(flagged):
    return flagged.images
  places = np.searchsorted(statistics.classes, flagged.labels)
  shared = (
    statistics.means,
    statistics.max_distances,
    np.float32(epsilon),
    seeds.jax_key(seed, 'noise'),
  )
  inputs = (
    flagged.images,
    places.astype(np.int32),
    seeds.id_hashes(flagged.ids),
  )
  return parallel.map_batches(
    _perturbation_kernel(kind, mode), shared, inputs, CHUNK_ROWS
  )
