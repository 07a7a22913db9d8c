"""How rough a picture is: its evidence is compared with equally rough ones.

What a PIRM says of honest pictures depends on their fine texture: a sensor's
noise, cloth, ridges. Their share above one threshold does, too. So the evidence
is put on a scale on which clean pictures of every roughness, with colors and
without, have the same median and the same high quantile (conformal prediction
within strata, made continuous).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

_HIGH = (0.99, 0.995)  # quantiles of clean evidence, for one view and for two
_KNOTS = 16
# Pictures around a knot: the 0.995 quantile needs at least 200. Of many, an
# eighth, so that a quantile does not hang on a handful.
_PER_KNOT = 400
_SHARE_PER_KNOT = 8
_FAINT = 0.25  # gray levels, added before the logarithm


class Evidence(NamedTuple):
  """What a PIRM says of pictures or parts of them, and what they look like.

  Attributes:
    value: evidence for poison.
    grain: the deviation that normal noise would have if it were all that is
      rough in the picture, in gray levels.
    gray: whether all channels are equal.
  """

  value: Float[np.ndarray, ' n']
  grain: Float[np.ndarray, ' n']
  gray: Bool[np.ndarray, ' n']


class Strata(NamedTuple):
  """The evidence of clean pictures over their grain.

  Attributes:
    position: of each knot, rising; for pictures with colors, and without.
    quantiles: the median and the `_HIGH` quantiles around each knot.
  """

  position: Float[np.ndarray, '2 k']
  quantiles: Float[np.ndarray, '2 k 3']


def look(
  images: UInt8[Array, 'n h w 3'],
) -> tuple[Float[Array, ' n'], Float[Array, ' n']]:
  """Grain, and 1.0 for pictures without colors (Immerkaer 1996)."""
  x = images.astype(jnp.float32)
  x = x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
  x = x[:, :, 2:] - 2 * x[:, :, 1:-1] + x[:, :, :-2]
  deviation = jnp.sqrt(jnp.pi / 2) / 6 * jnp.mean(jnp.abs(x), (1, 2, 3))
  alike = jnp.all(images == images[..., :1], (1, 2, 3))
  return deviation, alike.astype(jnp.float32)


def _position(grain: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
  """On the axis along which strata lie."""
  return np.log2(np.asarray(grain, np.float64) + _FAINT)


def fit(clean: Evidence) -> Strata | None:
  """The strata of clean pictures that did not train the PIRM.

  Args:
    clean: what it says of them; None is returned if they are too few.
  """
  parts = [_fit(clean, clean.gray == gray) for gray in (False, True)]
  if any(part is None for part in parts):
    return None
  return Strata(*map(np.stack, zip(*parts, strict=True)))


def _fit(
  clean: Evidence, chosen: Bool[np.ndarray, ' n']
) -> tuple[Float[np.ndarray, ' k'], Float[np.ndarray, 'k 3']] | None:
  place = _position(clean.grain[chosen])
  order = np.argsort(place, kind='stable')
  if len(order) < _PER_KNOT:
    return None
  around = max(_PER_KNOT, len(order) // _SHARE_PER_KNOT)
  place, value = place[order], clean.value[chosen][order]
  starts = np.linspace(0, len(order) - around, _KNOTS).round().astype(int)
  windows = [slice(start, start + around) for start in starts]
  quantiles = [np.quantile(value[w], (0.5, *_HIGH)) for w in windows]
  centers = np.array([np.median(place[w]) for w in windows])
  return np.maximum.accumulate(centers), np.array(quantiles)


def normalized(
  strata: Strata | None, found: Evidence, views: int
) -> Float[np.ndarray, ' n']:
  """Evidence on the common scale: clean pictures have median 0, and 1 % of them
  more than 1.

  Args:
    strata: those of the PIRM; None: the evidence stays.
    found: what it says.
    views: how many views of one picture there are, of which the largest counts:
      with two, half a percent of each has more than 1.
  """
  if strata is None:
    return found.value
  column = 1 if views == 1 else 2
  result = np.empty(len(found.value))
  for gray in (False, True):
    here = found.gray == gray
    knots, quantiles = (part[int(gray)] for part in strata)
    place = _position(found.grain[here])
    middle, high = (
      np.interp(place, knots, quantiles[:, c]) for c in (0, column)
    )
    result[here] = (found.value[here] - middle) / np.maximum(high - middle, 0.1)
  return result
