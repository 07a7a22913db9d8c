"""Algorithm 1: Laplacian noise calibrated to an image's place in its class.

For class k: mean image m over all its training images; distance d_i of image i
to m; sensitivity s_i = d_i / max d in [0, 1]; each pixel and channel of a
flagged image receives Laplace(0, s_i / epsilon) noise, in gray levels of
0..255, and is clipped to that range.

One rule is added to the paper's: no flagged image passes unchanged. An image
that equals its class's mean, as in a class of one image or of identical ones,
has the sensitivity 1, and so has one that the noise leaves as it was, bit for
bit.

Sensitivities take two passes over chunks of `Examples`, so that only a chunk
and a number for each image are in memory. For pictures of several sizes, or
read one at a time, there are the single steps:
`ClassMeans`, `distances`, `shares`, `treat`.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int, Int32, Shaped, UInt8

from babam_jax import errors, seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses import laplace
from babam_jax.training import parallel

MODES = ('laplace', 'released')
SMALLEST_EPSILON = 1e-9  # a lower one has noise that no float32 holds
DISTANCES = ('squared', 'euclidean', 'constant')
Chunks = Callable[[], Iterable[Examples]]  # called once for each pass
CHUNK_ROWS = 256


def in_chunks(examples: Examples, rows: int = CHUNK_ROWS) -> Chunks:
  """Chunks of examples in memory, to be walked over any number of times."""

  def chunks() -> Iterator[Examples]:
    for start in range(0, len(examples), rows):
      yield examples.take(np.arange(start, min(start + rows, len(examples))))

  return chunks


class ClassMeans:
  """The mean image of each class, in one pass over the images: line 2."""

  def __init__(self, classes: int):
    self._counts = np.zeros(classes)
    self._sums: Float64[np.ndarray, 'c h w 3'] | None = None

  def add(
    self, images: UInt8[np.ndarray, 'n h w 3'], places: Int[np.ndarray, ' n']
  ) -> None:
    """Adds some images.

    Args:
      images: gray levels 0..255, all of one size.
      places: the class of each image, from 0.
    """
    if self._sums is None:
      self._sums = np.zeros((len(self._counts), *images.shape[1:]))
    self._counts += np.bincount(places, minlength=len(self._counts))
    # Sums of whole numbers below 2**53: exact, in any order.
    for place in np.unique(places):
      mine = places == place
      members = images if mine.all() else images[mine]
      self._sums[place] += members.sum(0, np.uint32)

  def means(self) -> Float64[np.ndarray, 'c h w 3']:
    """The mean images so far, 0..255; zeros for a class without images.

    Raises:
      ValueError: none of the classes has an image.
    """
    if self._sums is None:
      raise ValueError('There are no images of these classes.')
    return self._sums / np.maximum(self._counts, 1)[:, None, None, None]


def distances(
  images: UInt8[Array | np.ndarray, 'n h w 3'],
  places: Int[Array | np.ndarray, ' n'],
  means: Float[Array | np.ndarray, 'c h w 3'],
  kind: str,
) -> Float[Array | np.ndarray, ' n']:
  """Distance of each image to its class's mean: lines 3 and 4.

  Args:
    images: gray levels 0..255; all three arrays are of NumPy, or all of JAX.
    places: the class of each image, as a row of `means`.
    means: the classes' mean images; their dtype is that of the result.
    kind: 'squared': sum of squares over pixels; 'euclidean': its root;
      'constant': 1, for noise that is not calibrated.
  """
  xp = jnp if isinstance(images, jax.Array) else np
  if kind == 'constant':
    return xp.ones(len(images))
  squares = xp.sum((images - means[places]) ** 2, axis=(1, 2, 3))
  return xp.sqrt(squares) if kind == 'euclidean' else squares


def shares(
  distances: Float[np.ndarray, ' n'], places: Int[np.ndarray, ' n']
) -> Float[np.ndarray, ' n']:
  """The sensitivities: each distance over its class's largest, lines 5 and 6.

  Args:
    distances: those of all images of the classes.
    places: the class of each image, from 0.

  Returns:
    Numbers in (0, 1]; 1 where a distance is 0, since a flagged image would
    otherwise pass without noise.
  """
  largest = np.zeros(places.max(initial=0) + 1, distances.dtype)
  np.maximum.at(largest, places, distances)
  found = distances > 0
  return np.where(found, distances / np.where(found, largest[places], 1), 1)


def _of_classes(
  chunks: Chunks, classes: Int[np.ndarray, ' c']
) -> Iterator[tuple[Examples, Int32[np.ndarray, ' n']]]:
  """The examples of these classes, and for each the index into `classes`."""
  for chunk in chunks():
    wanted = np.isin(chunk.labels, classes)
    if wanted.any():
      members = chunk if wanted.all() else chunk.take(wanted)
      places = np.searchsorted(classes, members.labels)
      yield members, places.astype(np.int32)


def class_means(
  chunks: Chunks, classes: Int[np.ndarray, ' c']
) -> Float32[np.ndarray, 'c h w 3']:
  """The mean image of each class, 0..255: line 2.

  Raises:
    ValueError: none of the classes has an image.
  """
  found = ClassMeans(len(classes))
  for examples, places in _of_classes(chunks, classes):
    found.add(examples.images, places)
  return found.means().astype(np.float32)


def sensitivities(
  chunks: Chunks, classes: Int[np.ndarray, ' c'], kind: str
) -> dict[str, float]:
  """How far each image of these classes is from its mean: lines 2 to 6.

  Args:
    chunks: all images, those of these classes included; walked over twice.
    classes: the numbers of the classes, ascending.
    kind: one of `DISTANCES`.

  Returns:
    The sensitivities by image id, in (0, 1]: the distance over the largest of
    the class; 1 where the distance is 0.
  """
  means = parallel.replicate(class_means(chunks, classes))
  kernel = _distance_kernel(kind)
  walked = []
  for examples, places in _of_classes(chunks, classes):
    rows = (examples.images, places)
    found = parallel.map_batches(kernel, means, rows, CHUNK_ROWS)
    walked.append((examples.ids, places, found))
  ids, places, found = map(np.concatenate, zip(*walked, strict=True))
  return dict(zip(ids.tolist(), shares(found, places).tolist(), strict=True))


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
  images: UInt8[np.ndarray, 'n h w c'],
  ids: Shaped[np.ndarray, ' n'],
  scales: Float[np.ndarray, ' n'],
  *,
  mode: str,
  seed: int,
) -> UInt8[np.ndarray, 'n h w c']:
  """Adds the noise to any number of images: lines 7 and 8.

  An image's noise depends on its id, not on its place in the batch.

  Args:
    images: the images to perturb, at least one.
    ids: the images' ids.
    scales: the scales of their noise, in gray levels: sensitivity / epsilon.
    mode: one of `MODES`.
    seed: the seed of the experiment.
  """
  rows = (images, scales.astype(np.float32), seeds.id_hashes(ids))
  key = seeds.jax_key(seed, 'noise')
  return parallel.map_batches(_perturbation_kernel(mode), key, rows, CHUNK_ROWS)


def check_epsilon(epsilon: object, name: str) -> None:
  """Checks a noise budget.

  Args:
    epsilon: what was given.
    name: that of the option.

  Raises:
    UserError: it is no finite number, or too low.
  """
  is_number = isinstance(epsilon, int | float | np.number)
  if not (is_number and SMALLEST_EPSILON <= epsilon < np.inf):
    raise errors.UserError(
      f'{name}: found {epsilon!r}, expected a finite number, at least '
      f'{SMALLEST_EPSILON:g}, such as 0.01.'
    )


class Treated(NamedTuple):
  """Flagged images after the noise.

  Attributes:
    images: gray levels; each differs from what it was.
    sensitivities: those that the noise was scaled by.
  """

  images: UInt8[np.ndarray, 'n h w c']
  sensitivities: Float[np.ndarray, ' n']


def treat(
  images: UInt8[np.ndarray, 'n h w c'],
  ids: Shaped[np.ndarray, ' n'],
  sensitivities: Float[np.ndarray, ' n'],
  *,
  epsilon: float,
  mode: str,
  seed: int,
  add: Callable[..., UInt8[np.ndarray, 'm h w c']] = perturb,
) -> Treated:
  """Adds the noise to flagged images, and changes each of them: lines 7 and 8.

  Args:
    images: the flagged ones, at least one.
    ids: the images' ids.
    sensitivities: those of the images, from `sensitivities` or `shares`.
    epsilon: the budget.
    mode: one of `MODES`.
    seed: the seed of the experiment.
    add: the function that adds the noise, called like `perturb`.

  Raises:
    UserError: an image is unchanged even by noise of sensitivity 1.
  """
  used = np.array(sensitivities, np.float64)
  noised = add(images, ids, used / epsilon, mode=mode, seed=seed)
  same = _unchanged(images, noised)
  if not len(same):
    return Treated(noised, used)
  used[same] = 1
  noised[same] = add(
    images[same], ids[same], used[same] / epsilon, mode=mode, seed=seed
  )
  still = same[_unchanged(images[same], noised[same])]
  if len(still):
    raise errors.UserError(
      f'epsilon: found {epsilon:g}, with which even the full noise leaves the '
      f'flagged picture {str(ids[still[0]])!r} as it is (mode {mode!r}); '
      'expected noise that changes it. Choose a lower one.'
    )
  return Treated(noised, used)


def _unchanged(
  before: UInt8[np.ndarray, 'n h w c'], after: UInt8[np.ndarray, 'n h w c']
) -> Int[np.ndarray, ' m']:
  """The rows of the images that are the same, bit for bit."""
  pairs = zip(before, after, strict=True)
  return np.flatnonzero([np.array_equal(*pair) for pair in pairs])
