"""Upright boxes of one color in a picture: stickers, plain triggers, bars."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

# Gray levels between a pixel and its neighbors, at most; of brightness alone:
# JPEG files mix the colors of neighbors.
_CHANGE = 8
_FILLED = 0.85  # the share of its box that a shape covers, at least
_SMALLEST = 6  # pixels a side
_LARGEST = 0.5  # of the picture's shorter side
_MOST = 24  # shapes of a picture, the largest ones

Picture = UInt8[np.ndarray, 'h w 3']


def find(pixels: Picture) -> Float[np.ndarray, 'k 5']:
  """The boxes of one color in a picture: height and width in pixels; red, green
  and blue."""
  kernel = np.ones((3, 3), np.uint8)
  gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
  change = cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, kernel)
  flat = (change <= _CHANGE).astype(np.uint8)
  _, owner, found, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
  left, top, width, height, area = found.T
  largest = _LARGEST * min(pixels.shape[:2])
  kept = (
    (np.minimum(width, height) >= _SMALLEST)
    & (np.maximum(width, height) <= largest)
    & (area >= _FILLED * width * height)
  )
  kept[0] = False  # what is not flat
  numbers = np.flatnonzero(kept)
  numbers = numbers[np.argsort(-area[numbers], kind='stable')][:_MOST]
  shapes = np.zeros((len(numbers), 5), np.float32)
  for shape, number in zip(shapes, numbers, strict=True):
    x, y, w, h = left[number], top[number], width[number], height[number]
    inside = np.s_[y : y + h, x : x + w]
    color = np.median(pixels[inside][owner[inside] == number], axis=0)
    shape[:] = (h, w, *color)
  return shapes
