"""Algorithm 2: flag with the PIRM, treat what is flagged, keep the rest."""

import dataclasses

import numpy as np
from jaxtyping import Bool

from babam_jax.data.examples import Examples
from babam_jax.defenses import noise

ACTIONS = ('perturb', 'drop', 'none')


def perturb_flagged(
  untrusted: Examples,
  flags: Bool[np.ndarray, ' n'],
  *,
  epsilon: float,
  distance: str,
  mode: str,
  seed: int,
) -> Examples:
  """The flagged images after Algorithm 1, with their ids and labels.

  Reads the labels, never the ground truth `untrusted.poisoned`.
  """
  flagged = untrusted.take(flags)
  if not len(flagged):
    return flagged
  sensitivity = noise.sensitivities(
    noise.in_chunks(untrusted), np.unique(flagged.labels), distance
  )
  scales = np.array([sensitivity[name] for name in flagged.ids]) / epsilon
  images = noise.perturb(
    flagged.images, flagged.ids, scales, mode=mode, seed=seed
  )
  return dataclasses.replace(flagged, images=images)


def sanitize(untrusted: Examples, treated: Examples) -> Examples:
  """The training set with the treated images in their places.

  Order, ids and labels are kept.
  """
  row_of = {name: row for row, name in enumerate(untrusted.ids)}
  images = untrusted.images.copy()
  images[[row_of[name] for name in treated.ids]] = treated.images
  return dataclasses.replace(untrusted, images=images)


def drop_flagged(
  untrusted: Examples, flags: Bool[np.ndarray, ' n']
) -> Examples:
  """The training set without the flagged images: the obvious alternative."""
  return untrusted.take(~flags)
