"""Small patches of a picture around its corners, to be found again in others.

A corner is where brightness changes in both directions (Shi and Tomasi 1994).
The patch around it, slightly blurred, less its mean and of length 1, is the
same wherever it lies and in other light.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float16, UInt8

_CORNERS = 96  # of a picture, the most prominent
_FAINTEST = 0.01  # of the most prominent corner's measure
# Corners are looked for in a copy of twice the size: those of small triggers
# are then found at the same place in all pictures.
_TWICE = 2
_APART = 4  # pixels of that copy between two corners
_REACH = 6  # pixels of that copy from the corner to the patch's border
RADIUS = _REACH // _TWICE  # the same in pixels of the picture
_POINTS = 5  # a side, at which a patch is read
_BLUR = 0.4  # pixels of the picture
_FLAT = 12.0  # gray levels: a patch of less deviation is left out
# A patch whose brightness changes mostly in one direction is an edge, and like
# every other edge: the lesser of the two changes, as a share of the greater.
_EDGE = 0.15

Picture = UInt8[np.ndarray, 'h w 3']


class Patches(NamedTuple):
  """The patches of a picture.

  Attributes:
    values: each patch, of length 1; float16 to need little memory.
    places: x and y of the corners, in pixels.
  """

  values: Float16[np.ndarray, 'n d']
  places: Float[np.ndarray, 'n 2']


def find(picture: Picture) -> Patches:
  """The patches of a picture; a plain picture has none."""
  size = [_TWICE * side for side in picture.shape[1::-1]]
  gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
  corners = _corners(cv2.resize(gray, size, interpolation=cv2.INTER_CUBIC))
  values, contrast = _read(picture, corners / _TWICE)
  farthest = np.array(size) - 1 - _REACH
  inside = ((corners >= _REACH) & (corners <= farthest)).all(1)
  kept = (
    inside & (contrast > _FLAT) & (_roundness(gray, corners / _TWICE) > _EDGE)
  )
  return Patches(values[kept].astype(np.float16), corners[kept] / _TWICE)


def _corners(gray: UInt8[np.ndarray, 'h w']) -> Float[np.ndarray, 'n 2']:
  found = cv2.goodFeaturesToTrack(
    gray, _CORNERS, _FAINTEST, _APART, blockSize=_APART
  )
  if found is None:
    return np.zeros((0, 2), np.float32)
  rule = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 5, 0.05)
  return cv2.cornerSubPix(gray, found, (2, 2), (-1, -1), rule)[:, 0]


def _read(
  picture: Picture, corners: Float[np.ndarray, 'n 2']
) -> tuple[Float[np.ndarray, 'n d'], Float[np.ndarray, ' n']]:
  """The patches, and their deviations in gray levels."""
  if not len(corners):
    return np.zeros((0, 3 * _POINTS**2), np.float32), np.zeros(0, np.float32)
  soft = cv2.GaussianBlur(picture, (3, 3), _BLUR)
  line = np.linspace(-RADIUS, RADIUS, _POINTS, dtype=np.float32)
  across, down = (part.ravel() for part in np.meshgrid(line, line))
  read = cv2.remap(
    soft,
    corners[:, :1] + across,
    corners[:, 1:] + down,
    cv2.INTER_CUBIC,
    borderMode=cv2.BORDER_REPLICATE,
  )
  values = read.reshape(len(corners), -1).astype(np.float32)
  values = values - values.mean(1, keepdims=True)
  length = np.linalg.norm(values, axis=1)
  unit = values / np.maximum(length, 1e-6)[:, None]
  return unit, length / np.sqrt(values.shape[1])


def _roundness(
  gray: UInt8[np.ndarray, 'h w'], corners: Float[np.ndarray, 'n 2']
) -> Float[np.ndarray, ' n']:
  """How alike the changes of brightness are in both directions, from 0 to 1:
  the lesser eigenvalue of the structure tensor as a share of the greater."""
  across, down = (cv2.Sobel(gray, cv2.CV_32F, *o) for o in ((1, 0), (0, 1)))
  window = (2 * RADIUS + 1, 2 * RADIUS + 1)
  column, row = np.rint(corners).astype(int).T
  row = row.clip(0, len(gray) - 1)
  column = column.clip(0, gray.shape[1] - 1)
  xx, xy, yy = (
    cv2.boxFilter(product, -1, window)[row, column]
    for product in (across**2, across * down, down**2)
  )
  spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
  return (xx + yy - spread) / np.maximum(xx + yy + spread, 1e-6)
