"""FLARE (Hou et al. 2024, "FLARE: towards universal dataset purification
against backdoor attacks"): poison is abnormal in some channel of some layer,
and all of it in the same way.

Of each layer of a model that was trained on the suspect pictures, the least
likely activation of each picture counts. What the layers say is laid out in two
dimensions (UMAP) and divided into clusters by density (HDBSCAN); the largest
one is taken for clean. If no division is stable, the last layers, which tell
classes apart, are left out one by one.

The authors take the statistics of BatchNorm. AlexNet and VGG16 have none; here
they are those of the suspect pictures, before each activation. Their smallest
cluster has 100 pictures of 50,000; here it is a share, as 70 poisons among
1,100 pictures are no cluster of a hundred.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from babam_jax import errors, seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Need
from babam_jax.defenses.suspect import Suspect, Verdict
from babam_jax.progress import progress_bar
from babam_jax.settings import setting
from babam_jax.training import parallel

_VARIANCE = 1e-5  # added to variances, as BatchNorm does
_NEIGHBORS = 40  # of UMAP
_FEWEST = 5  # pictures of a cluster
_STABLE = 0.02  # of density, over which a stable cluster persists
_STEPS = 3  # down the tree of clusters, at most
_BELOW = 1e-4  # of density, to be on the near side of a division
_PASSES = 2
_CHUNK = 64  # pictures at a time

Pictures = UInt8[np.ndarray, 'n h w 3']


def abnormality(
  suspect: Suspect,
  pictures: Pictures,
  on_pictures: Callable[[int], object] = lambda count: None,
) -> Float[np.ndarray, 'n l']:
  """The log density of the least likely activation of each picture in each
  hidden layer, from the first to the last.

  Args:
    suspect: the model.
    pictures: gray levels.
    on_pictures: called with the number of pictures done, twice for each.
  """
  chunks = [
    pictures[start : start + _CHUNK]
    for start in range(0, len(pictures), _CHUNK)
  ]

  def passed(function: Callable[..., Array], shared: Any):
    mapped = parallel.mapped(function, 1, 1)
    shared = parallel.replicate(shared)
    for chunk in chunks:
      on_pictures(len(chunk))
      yield parallel.map_batches(mapped, shared, (chunk,), _CHUNK)

  def moments(variables, images) -> Float[Array, 'n 2 c']:
    hidden = _hidden(suspect, variables, images)
    powers = [[(x**k).mean(1) for x in hidden] for k in (1, 2)]
    return jnp.stack([jnp.concatenate(parts, -1) for parts in powers], 1)

  total = sum(
    part.astype(np.float64).sum(0)
    for part in passed(moments, suspect.variables)
  )
  mean, square = np.asarray(total) / len(pictures)
  variance = np.maximum(square - mean**2, 0) + _VARIANCE

  def least(shared, images) -> Float[Array, 'n l']:
    variables, mean, variance = shared
    found, start = [], 0
    for x in _hidden(suspect, variables, images):
      these = slice(start, start + x.shape[-1])
      distance = (x - mean[these]) ** 2 / variance[these]
      density = -0.5 * (distance + jnp.log(2 * jnp.pi * variance[these]))
      found.append(density.min((1, 2)))
      start += x.shape[-1]
    return jnp.stack(found, 1)

  statistics = (mean.astype(np.float32), variance.astype(np.float32))
  return np.concatenate(list(passed(least, (suspect.variables, *statistics))))


def _hidden(
  suspect: Suspect, variables: Any, images: UInt8[Array, 'n h w 3']
) -> list[Float[Array, 'n p c']]:
  """All hidden layers, at each place."""
  layers = suspect.layers(variables, images / 255.0)
  return [x.reshape(len(x), -1, x.shape[-1]) for x in layers]


def poison_of(
  evidence: Float[np.ndarray, 'n l'], fewest: int, seed: int
) -> Bool[np.ndarray, ' n']:
  """Which pictures belong to a cluster, but not to the largest one; none, if no
  division is stable.

  Args:
    evidence: what each layer says of each picture.
    fewest: pictures of a cluster, at least.
    seed: of the layout in two dimensions.
  """
  import hdbscan
  import umap

  neighbors = min(_NEIGHBORS, len(evidence) - 1)
  for layers in range(evidence.shape[1], 0, -1):
    laid_out = umap.UMAP(
      n_neighbors=neighbors, min_dist=0.0, random_state=seed, n_jobs=1
    ).fit_transform(evidence[:, :layers])
    clusters = hdbscan.HDBSCAN(min_cluster_size=fewest).fit(laid_out)
    density = _stable(clusters.condensed_tree_.to_numpy())
    if density is None:
      continue
    owner = clusters.single_linkage_tree_.get_clusters(
      1 / (density - _BELOW), fewest
    )
    is_in_one = owner >= 0
    if not is_in_one.any():
      continue
    largest = np.bincount(owner[is_in_one]).argmax()
    return is_in_one & (owner != largest)
  return np.zeros(len(evidence), bool)


def _stable(tree: np.ndarray) -> float | None:
  """The density at which the first stable cluster on the way down from the
  largest one divides; None if none is stable.

  Args:
    tree: HDBSCAN's condensed tree, a record for each node: `parent`, `child`,
      `lambda_val` (the density at which it begins), `child_size`.
  """
  clusters = tree[tree['child_size'] > 1]
  if not len(clusters):
    return None
  node = clusters[clusters['child_size'].argmax()]
  for _ in range(_STEPS):
    children = clusters[clusters['parent'] == node['child']]
    if not len(children):
      return None
    child = children[children['child_size'].argmax()]
    if child['lambda_val'] - node['lambda_val'] > _STABLE:
      return float(child['lambda_val'])
    node = child
  return None


@dataclasses.dataclass(frozen=True)
class Flare(Detector):
  """Flags what is abnormal in another way than most."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.MODEL})

  smallest_share: float = setting(
    0.01,
    'The smallest cluster, as a share of all pictures.',
    above=0,
    at_most=0.5,
  )

  def check(self, path: str, recognizer: Any) -> None:
    """Checks that its packages are installed."""
    del recognizer
    try:
      import hdbscan  # noqa: F401
      import umap  # noqa: F401
    except ImportError:
      raise errors.missing_extra(f'config.{path}', 'flare') from None

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Scores 1 what is flagged, else 0."""
    total = _PASSES * len(pictures)
    with progress_bar(total, 'FLARE', 'img') as bar:
      evidence = abnormality(context.suspect, pictures.images, bar.update)
    context.meter.count(total)
    flags = poison_of(
      evidence,
      max(_FEWEST, round(self.smallest_share * len(pictures))),
      seeds.child_seed(context.seed, 'flare') % 2**32,
    )
    return Verdict(flags.astype(float), flags)
