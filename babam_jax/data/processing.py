"""Random processing, as files undergo it before they are used: resizing,
blurring, sharpening, noise, other tones, loss of colors, JPEG, WebP.

A poison detector must recognize poison and clean pictures after all of these.
"""

import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

Picture = UInt8[np.ndarray, 'h w 3']

_AS_IT_IS = 0.2  # the share of pictures to which nothing happens
_RESIZED, _FILTERED, _ENCODED, _GRAYED = 0.3, 0.3, 0.6, 0.15  # of the others
_SCALES = (0.4, 2.0)
_QUALITIES = (60, 100)
_LUMA = np.array([0.299, 0.587, 0.114])
_FORMATS = (0.7, 0.15, 0.15)  # JPEG, WebP, JPEG twice
_SUBSAMPLINGS = (0, 2)  # of the colors, in Pillow's numbers: 4:4:4, 4:2:0
_FILTERS = (
  Image.Resampling.BILINEAR,
  Image.Resampling.BICUBIC,
  Image.Resampling.LANCZOS,
  Image.Resampling.BOX,
)


def process(picture: Picture, rng: np.random.Generator) -> Picture:
  """Processes a picture in random ways; its size stays.

  Equal generators process alike: a poison and its original use equal ones.
  """
  if rng.random() < _AS_IT_IS:
    return picture
  grayed, resized, filtered, encoded = rng.random(4) < (
    _GRAYED,
    _RESIZED,
    _FILTERED,
    _ENCODED,
  )
  if grayed:
    picture = as_gray(picture)
  if resized:
    picture = _resize(picture, rng)
  if filtered:
    step = (_blur, _sharpen, _add_noise, _change_tones)[rng.integers(4)]
    picture = step(picture, rng)
  return _encode(picture, rng) if encoded else picture


def as_gray(picture: Picture) -> Picture:
  """A picture without its colors, in three equal channels."""
  luma = np.rint(picture @ _LUMA).astype(np.uint8)
  return np.broadcast_to(luma[..., None], picture.shape).copy()


def with_noise(picture: Picture, noise: Float[np.ndarray, 'h w c']) -> Picture:
  """A picture plus noise in gray levels; c is 3, or 1 for equal channels."""
  return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def as_jpeg(picture: Picture, quality: int, subsampling: int = 2) -> Picture:
  """A picture that was saved as JPEG and read again."""
  buffer = io.BytesIO()
  Image.fromarray(picture).save(
    buffer, 'JPEG', quality=quality, subsampling=subsampling
  )
  return np.asarray(Image.open(buffer))


def as_webp(picture: Picture, quality: int) -> Picture:
  """A picture that was saved as WebP and read again."""
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, 'WEBP', quality=quality, method=2)
  return np.asarray(Image.open(buffer).convert('RGB'))


def _encode(picture: Picture, rng: np.random.Generator) -> Picture:
  """JPEG, WebP, or JPEG twice."""
  kind = rng.choice(3, p=_FORMATS)
  low, high = _QUALITIES
  first, second = (int(q) for q in rng.integers(low, high + 1, 2))
  if kind == 1:
    return as_webp(picture, first)
  picture = as_jpeg(picture, first, int(rng.choice(_SUBSAMPLINGS)))
  if kind == 2:
    picture = as_jpeg(picture, second, int(rng.choice(_SUBSAMPLINGS)))
  return picture


def _resize(picture: Picture, rng: np.random.Generator) -> Picture:
  height, width = picture.shape[:2]
  scale = np.exp(rng.uniform(*np.log(_SCALES)))
  size = (round(width * scale), round(height * scale))
  method = _FILTERS[rng.integers(len(_FILTERS))]
  resized = np.asarray(Image.fromarray(picture).resize(size, method))
  return fit(resized, height, width, rng)


def fit(
  picture: Picture, height: int, width: int, rng: np.random.Generator
) -> UInt8[np.ndarray, '{height} {width} 3']:
  """A random crop of a picture; a picture that is too small is first extended
  by its mirror image."""
  missing = [
    (0, max(0, wanted - found))
    for wanted, found in zip((height, width), picture.shape[:2], strict=True)
  ]
  if any(after for _, after in missing):
    picture = np.pad(picture, (*missing, (0, 0)), 'symmetric')
  top, left = rng.integers(
    0, np.subtract(picture.shape[:2], (height, width)) + 1
  )
  return picture[top : top + height, left : left + width]


def _blur(picture: Picture, rng: np.random.Generator) -> Picture:
  radius = rng.uniform(0.3, 1.0)
  image = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius))
  return np.asarray(image)


def _sharpen(picture: Picture, rng: np.random.Generator) -> Picture:
  mask = ImageFilter.UnsharpMask(
    rng.uniform(0.5, 2.0), int(rng.integers(50, 201)), 0
  )
  return np.asarray(Image.fromarray(picture).filter(mask))


def _change_tones(picture: Picture, rng: np.random.Generator) -> Picture:
  """Another gamma and contrast."""
  gamma, contrast = np.exp(rng.uniform(-0.4, 0.4, 2))
  tones = 255 * (np.arange(256) / 255) ** gamma
  tones = np.clip(128 + contrast * (tones - 128), 0, 255)
  return np.rint(tones).astype(np.uint8)[picture]


def _add_noise(picture: Picture, rng: np.random.Generator) -> Picture:
  """Adds Gaussian, uniform or two-valued noise, some of it gray.
  Its amplitude is in poison's range, so that amplitude alone tells nothing."""
  amplitude = np.exp(rng.uniform(*np.log((1, 16))))
  channels = 3 if rng.random() < 0.7 else 1
  shape = (*picture.shape[:2], channels)
  kind = rng.integers(3)
  if kind == 0:
    noise = rng.normal(0, amplitude / 2, shape)
  elif kind == 1:
    noise = rng.uniform(-amplitude, amplitude, shape)
  else:
    noise = amplitude * rng.choice((-1.0, 1.0), shape)
  return with_noise(picture, noise)
