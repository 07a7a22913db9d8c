"""Algorithm 2: flag with the PIRM, treat what is flagged, keep the rest."""

import dataclasses

import numpy as np
from jaxtyping import Bool

from babam_jax.data.examples import Examples
from babam_jax.defenses import noise

ACTIONS = ('perturb', 'drop', 'none')


def treat(
  untrusted: Examples,
  flags: Bool[np.ndarray, ' n'],
  *,
  epsilon: float,
  distance: str,
  mode: str,
  seed: int,
) -> Examples:
  """The training set with Algorithm 1's noise on all that is flagged.

  Order, ids and labels are kept, and what is not flagged bit for bit; what is
  flagged never stays as it is.

  Args:
    untrusted: the training set; its `poisoned` is not read.
    flags: of its pictures.
    epsilon: the budget; the noise has a scale of up to 1 / epsilon gray levels.
    distance: one of `noise.DISTANCES`.
    mode: one of `noise.MODES`.
    seed: of the noise.

  Raises:
    UserError: the budget is so large that the noise changes nothing.
  """
  treated = perturb_flagged(
    untrusted,
    flags,
    epsilon=epsilon,
    distance=distance,
    mode=mode,
    seed=seed,
  )
  return sanitize(untrusted, treated)


def perturb_flagged(
  untrusted: Examples,
  flags: Bool[np.ndarray, ' n'],
  *,
  epsilon: float,
  distance: str,
  mode: str,
  seed: int,
) -> Examples:
  """The flagged images alone, as `treat` leaves them, with ids and labels.

  Reads the labels, never the ground truth `untrusted.poisoned`.
  """
  flagged = untrusted.take(flags)
  if not len(flagged):
    return flagged
  sensitivity = noise.sensitivities(
    noise.in_chunks(untrusted), np.unique(flagged.labels), distance
  )
  treated = noise.treat(
    flagged.images,
    flagged.ids,
    np.array([sensitivity[name] for name in flagged.ids]),
    epsilon=epsilon,
    mode=mode,
    seed=seed,
  )
  return dataclasses.replace(flagged, images=treated.images)


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
