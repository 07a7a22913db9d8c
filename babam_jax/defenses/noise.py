"""Algorithm 1: Laplacian noise calibrated to an image's place in its class.

For class k: mean image m over all its training images; distance d_i of image i
to m; sensitivity s_i = d_i / max d in [0, 1]; each pixel and channel of a
flagged image receives Laplace(0, s_i / epsilon) noise, in gray levels of
0..255, and is clipped to that range.

Sensitivities take two passes over chunks of `Examples`, so that of a data set
no more is in memory than a chunk and a number for each image.
"""

import functools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, Shaped, UInt8

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses import laplace
from babam_jax.training import parallel

MODES = ('laplace', 'released')
DISTANCES = ('squared', 'euclidean', 'constant')
Chunks = Callable[[], Iterable[Examples]]  # called once for each pass
CHUNK_ROWS = 256


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
    images: gray levels 0..255.
    places: each one's class among the means.
    means: the classes' mean images.
    kind: 'squared': sum of squares over pixels; 'euclidean': its root;
      'constant': 1, for noise that is not calibrated.
  """
  if kind == 'constant':
    return jnp.ones(len(images))
  squares = jnp.sum((images - means[places]) ** 2, axis=(1, 2, 3))
  return jnp.sqrt(squares) if kind == 'euclidean' else squares


def _of_classes(
  chunks: Chunks, classes: Int32[np.ndarray, ' c']
) -> Iterator[tuple[Examples, Int32[np.ndarray, ' n']]]:
  """The examples of these classes, and each one's place among `classes`."""
  for chunk in chunks():
    wanted = np.isin(chunk.labels, classes)
    if wanted.any():
      members = chunk if wanted.all() else chunk.take(wanted)
      places = np.searchsorted(classes, members.labels)
      yield members, places.astype(np.int32)


def class_means(
  chunks: Chunks, classes: Int32[np.ndarray, ' c']
) -> Float32[np.ndarray, 'c h w 3']:
  """The mean image of each class, 0..255: line 2.

  Raises:
    ValueError: none of the classes has an image.
  """
  counts = np.zeros(len(classes))
  sums: np.ndarray | None = None
  for examples, places in _of_classes(chunks, classes):
    if sums is None:
      sums = np.zeros((len(classes), *examples.images.shape[1:]))
    counts += np.bincount(places, minlength=len(classes))
    # Sums of whole numbers below 2**53: exact, in whatever order.
    for place in np.unique(places):
      mine = places == place
      members = examples.images if mine.all() else examples.images[mine]
      sums[place] += members.sum(0, np.uint32)
  if sums is None:
    raise ValueError('There are no images of these classes.')
  sums /= np.maximum(counts, 1)[:, None, None, None]
  return sums.astype(np.float32)


def sensitivities(
  chunks: Chunks, classes: Int32[np.ndarray, ' c'], kind: str
) -> dict[str, float]:
  """How far each image of these classes is from its mean: lines 2 to 6.

  Args:
    chunks: all images, these classes' among them; walked over twice.
    classes: the numbers of the classes, ascending.
    kind: one of `DISTANCES`.

  Returns:
    For each image's id, in [0, 1]: its distance over the largest of its class;
    0 in a class of one image or of identical ones.
  """
  means = parallel.replicate(class_means(chunks, classes))
  kernel = _distance_kernel(kind)
  largest = np.zeros(len(classes), np.float32)
  walked = []
  for examples, places in _of_classes(chunks, classes):
    rows = (examples.images, places)
    found = parallel.map_batches(kernel, means, rows, CHUNK_ROWS)
    np.maximum.at(largest, places, found)
    walked.append((examples.ids, places, found))
  ids, places, found = map(np.concatenate, zip(*walked, strict=True))
  shares = found / np.where(largest > 0, largest, 1)[places]
  return dict(zip(ids.tolist(), shares.tolist(), strict=True))


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
def _perturbation_kernel(mode: str) -> Callable[..., Array]:
  mechanism = {'laplace': _add, 'released': _wrap}[mode]

  def perturb_rows(key, images, scales, hashes):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, hashes)
    return laplace.apply(mechanism, jax.random.key_data(keys), images, scales)

  return parallel.mapped(perturb_rows, 1, 3)


def perturb(
  images: UInt8[np.ndarray, 'n h w 3'],
  ids: Shaped[np.ndarray, ' n'],
  scales: Float32[np.ndarray, ' n'],
  *,
  mode: str,
  seed: int,
) -> UInt8[np.ndarray, 'n h w 3']:
  """Lines 7 and 8, for any number of images.

  An image's noise depends on its id, not on its place in the batch.

  Args:
    images: to perturb, at least one.
    ids: their names.
    scales: of their noise, in gray levels: sensitivity over epsilon.
    mode: one of `MODES`.
    seed: of the experiment.
  """
  rows = (images, np.asarray(scales, np.float32), seeds.id_hashes(ids))
  key = seeds.jax_key(seed, 'noise')
  return parallel.map_batches(_perturbation_kernel(mode), key, rows, CHUNK_ROWS)
