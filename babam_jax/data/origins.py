"""What honest pictures go through before they become files: a sensor, film, a
press, a screen, a retoucher.

Each leaves a fine texture that is no poison. A poison detector must know them
as they are, and with poison on top.
"""

from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

Picture = UInt8[np.ndarray, 'h w 3']
_Plane = Float[np.ndarray, 'h w']
_GAMMA = 2.2


def process(picture: Picture, rng: np.random.Generator) -> Picture:
  """Gives a picture the look of one random origin; its size stays."""
  return ORIGINS[rng.integers(len(ORIGINS))](picture, rng)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
  """A number that is as likely from 1 to 2 as from 2 to 4."""
  return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _as_bytes(values: Float[np.ndarray, 'h w _']) -> Picture:
  rounded = np.clip(np.rint(values), 0, 255).astype(np.uint8)
  return np.broadcast_to(rounded, (*rounded.shape[:2], 3)).copy()


def _normal_plane(
  rng: np.random.Generator, shape: tuple[int, ...], blur: float
) -> Float[np.ndarray, '...']:
  """Normal noise, blurred within rows and columns, of deviation 1."""
  noise = rng.normal(size=shape)
  if blur:
    noise = scipy.ndimage.gaussian_filter(noise, (blur, blur, 0)[: len(shape)])
  return noise / (noise.std() or 1.0)


# --- Cameras ---


def sensor_noise(picture: Picture, rng: np.random.Generator) -> Picture:
  """Shot and read noise of a sensor with a Bayer pattern, interpolated."""
  light = (picture / 255.0) ** _GAMMA
  shot, read = _between(rng, 2e-4, 1.5e-2), _between(rng, 5e-4, 1.5e-2)
  gains = np.array([rng.uniform(1.2, 2.2), 1.0, rng.uniform(1.2, 2.2)])
  deviation = np.sqrt(shot * light / gains + read**2)
  raw = light + gains * deviation * rng.normal(size=light.shape)
  developed = np.clip(_demosaiced(raw), 0, 1) ** (1 / _GAMMA) * 255
  if rng.random() < 0.4:  # the camera's own denoising
    developed = _denoised(developed, rng)
  return _as_bytes(developed)


def _demosaiced(raw: Float[np.ndarray, 'h w 3']) -> Float[np.ndarray, 'h w 3']:
  """Keeps one color of each pixel, and interpolates the others from it."""
  rows, columns = np.indices(raw.shape[:2]) % 2
  filters = (rows + columns == 0, rows + columns == 1, rows + columns == 2)
  kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], float)

  def interpolated(channel: int) -> _Plane:
    there = filters[channel].astype(float)
    total = scipy.ndimage.convolve(
      raw[..., channel] * there, kernel, mode='mirror'
    )
    return total / scipy.ndimage.convolve(there, kernel, mode='mirror')

  return np.stack([interpolated(channel) for channel in range(3)], axis=-1)


def _denoised(
  pixels: Float[np.ndarray, 'h w 3'], rng: np.random.Generator
) -> Float[np.ndarray, 'h w 3']:
  """Smooths the colors, and a little of the brightness."""
  luma = pixels.mean(axis=2, keepdims=True)
  colors = scipy.ndimage.gaussian_filter(pixels - luma, (1.5, 1.5, 0))
  smooth = scipy.ndimage.gaussian_filter(luma, (0.8, 0.8, 0))
  share = rng.uniform(0, 0.7)
  return (1 - share) * luma + share * smooth + colors


def white_noise(picture: Picture, rng: np.random.Generator) -> Picture:
  """Normal, uniform, two-valued or salt-and-pepper noise, gray or colored."""
  amplitude = _between(rng, 1, 20)
  shape = (*picture.shape[:2], 3 if rng.random() < 0.6 else 1)
  kind = rng.integers(4)
  if kind == 0:
    noise = amplitude * rng.normal(size=shape)
  elif kind == 1:
    noise = amplitude * rng.uniform(-1.7, 1.7, shape)
  elif kind == 2:
    noise = amplitude * rng.choice((-1.0, 1.0), shape)
  else:
    noise = 255 * rng.choice((-1.0, 0.0, 1.0), shape, p=(0.01, 0.98, 0.01))
  return _as_bytes(picture + noise)


def film_grain(picture: Picture, rng: np.random.Generator) -> Picture:
  """Grain of a film, strongest in the middle tones."""
  shape = (*picture.shape[:2], 1 if rng.random() < 0.6 else 3)
  grain = _normal_plane(rng, shape, rng.uniform(0.3, 1.6))
  tones = picture / 255.0
  strength = 0.3 + 2.8 * tones * (1 - tones)
  return _as_bytes(picture + _between(rng, 2, 18) * strength * grain)


# --- Retouching ---


def sharpened(picture: Picture, rng: np.random.Generator) -> Picture:
  """Sharpened hard, as a phone does."""
  mask = ImageFilter.UnsharpMask(
    rng.uniform(0.5, 3.0), int(rng.integers(80, 400)), int(rng.integers(0, 4))
  )
  return np.asarray(Image.fromarray(picture).filter(mask))


def beautified(picture: Picture, rng: np.random.Generator) -> Picture:
  """Without its fine texture: a median or a blur that keeps the edges."""
  if rng.random() < 0.5:
    size = int(rng.choice((3, 5)))
    smooth = Image.fromarray(picture).filter(ImageFilter.MedianFilter(size))
    return np.asarray(smooth)
  blurred = scipy.ndimage.gaussian_filter(picture.astype(float), (2, 2, 0))
  change = picture - blurred
  keep = 1 - np.exp(-((change / rng.uniform(6, 25)) ** 2))
  return _as_bytes(blurred + keep * change)


def high_dynamic_range(picture: Picture, rng: np.random.Generator) -> Picture:
  """Local contrast, as tone mapping exaggerates it."""
  radius = rng.uniform(3, 20)
  blurred = scipy.ndimage.gaussian_filter(
    picture.astype(float), (radius, radius, 0)
  )
  detail = rng.uniform(0.5, 2.5) * (picture - blurred)
  return _as_bytes(128 + rng.uniform(0.5, 1) * (blurred - 128) + detail)


def captioned(picture: Picture, rng: np.random.Generator) -> Picture:
  """A line of text, or a watermark all over."""
  image = Image.fromarray(picture)
  letters = Image.new('L', image.size)
  draw = ImageDraw.Draw(letters)
  words = ''.join(rng.choice(list('ABCDEFGHKLMNPRST 0123456789.:'), 24))
  width, height = image.size
  size = float(rng.integers(8, 22))
  if rng.random() < 0.5:
    place = (rng.uniform(0, width / 3), rng.uniform(0, height - size))
    draw.text(place, words, fill=255, font_size=size)
  else:
    for top in range(0, height, int(2 * size)):
      draw.text((-top % 40 - 40, top), words * 3, fill=90, font_size=size)
  color = tuple(int(c) for c in rng.integers(0, 256, 3))
  image.paste(color, mask=letters)
  return np.asarray(image)


# --- Fewer pixels, fewer colors ---


def upscaled(picture: Picture, rng: np.random.Generator) -> Picture:
  """Enlarged from fewer pixels, by any filter."""
  image, scale = Image.fromarray(picture), _between(rng, 1.3, 5)
  small = [max(8, round(side / scale)) for side in image.size]
  left, top = (
    int(rng.integers(0, side - part + 1))
    for side, part in zip(image.size, small, strict=True)
  )
  box = (left, top, left + small[0], top + small[1])
  method = Image.Resampling(int(rng.integers(6)))
  return np.asarray(image.crop(box).resize(image.size, method))


def few_colors(picture: Picture, rng: np.random.Generator) -> Picture:
  """A palette, with error diffusion or without."""
  colors = int(_between(rng, 4, 256))
  dithered = Image.fromarray(picture).quantize(colors).convert('RGB')
  if rng.random() < 0.3:
    return np.asarray(dithered)
  palette = Image.fromarray(picture).quantize(colors)
  diffused = Image.fromarray(picture).quantize(
    palette=palette, dither=Image.Dither.FLOYDSTEINBERG
  )
  return np.asarray(diffused.convert('RGB'))


_BAYER = np.array(
  [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]
)


def ordered_dither(picture: Picture, rng: np.random.Generator) -> Picture:
  """Few levels, with the 4 x 4 pattern of old displays."""
  step = 255 / int(rng.choice((1, 2, 3, 5, 7, 15, 31)))
  height, width = picture.shape[:2]
  pattern = np.tile(_BAYER, (-(-height // 4), -(-width // 4)))[:height, :width]
  shift = ((pattern + 0.5) / 16 - 0.5)[..., None] * step
  return _as_bytes(np.rint((picture + shift) / step) * step)


# --- Printed and photographed again ---


def halftone(picture: Picture, rng: np.random.Generator) -> Picture:
  """A press's screen: dots, one grid for each color or one for all."""
  period = rng.uniform(2.5, 9)
  screens = rng.uniform(0, np.pi, 3 if rng.random() < 0.5 else 1)
  grid = np.stack([_dots(picture.shape, period, a) for a in screens], axis=-1)
  softness = rng.uniform(0.05, 0.6)
  printed = 255 / (1 + np.exp(-(picture / 255 - grid) / softness * 4))
  share = rng.uniform(0.1, 1)
  mixed = share * printed + (1 - share) * picture
  return _as_bytes(scipy.ndimage.gaussian_filter(mixed, (0.5, 0.5, 0)))


def _dots(shape: tuple[int, ...], period: float, angle: float) -> _Plane:
  """Thresholds from 0 to 1 whose hills are dots on a turned grid."""
  rows, columns = np.indices(shape[:2])
  turned = (
    columns * np.cos(angle) + rows * np.sin(angle),
    rows * np.cos(angle) - columns * np.sin(angle),
  )
  waves = [np.cos(2 * np.pi * place / period) for place in turned]
  return 0.5 + 0.25 * (waves[0] + waves[1])


def photographed_again(picture: Picture, rng: np.random.Generator) -> Picture:
  """A print or a screen that was photographed: turned, its grid and the
  sensor's interfere, noise."""
  rows, columns = np.indices(picture.shape[:2])
  stripes = np.cos(2 * np.pi * (columns * rng.uniform(0.28, 0.72)))
  lit = picture * (1 + rng.uniform(0, 0.15) * stripes[..., None])
  angle = rng.uniform(-4, 4)
  image = Image.fromarray(_as_bytes(lit)).rotate(
    angle, Image.Resampling.BICUBIC
  )
  zoom = rng.uniform(0.8, 0.9)
  width, height = image.size
  left, top = (1 - zoom) / 2 * width, (1 - zoom) / 2 * height
  box = (left, top, width - left, height - top)
  again = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
  noise = _normal_plane(rng, picture.shape, rng.uniform(0, 0.7))
  return _as_bytes(np.asarray(again) + _between(rng, 0.5, 5) * noise)


def canvas(picture: Picture, rng: np.random.Generator) -> Picture:
  """A painting: strokes of a brush, and the weave that they lie on."""
  strokes = scipy.ndimage.gaussian_filter(
    rng.normal(size=picture.shape[:2]), rng.permutation((0.6, 3.0))
  )
  weave = _weave(picture.shape, rng)
  relief = (
    _between(rng, 2, 18) * strokes / strokes.std()
    + _between(rng, 0.5, 12) * weave
  )
  painted = Image.fromarray(picture)
  if rng.random() < 0.7:
    painted = painted.filter(ImageFilter.ModeFilter(int(rng.choice((3, 5)))))
  return _as_bytes(np.asarray(painted) + relief[..., None])


def _weave(shape: tuple[int, ...], rng: np.random.Generator) -> _Plane:
  """The threads of a cloth, from -1 to 1."""
  rows, columns = np.indices(shape[:2])
  angle, period = rng.uniform(-0.2, 0.2), rng.uniform(2.2, 8)
  x = 2 * np.pi * (columns + angle * rows) / period
  y = 2 * np.pi * (rows - angle * columns) / (period * rng.uniform(0.8, 1.2))
  return np.sin(x) * np.cos(y) if rng.random() < 0.5 else np.sin(x) + np.sin(y)


# --- Fine periodic texture ---


def ridges(picture: Picture, rng: np.random.Generator) -> Picture:
  """Ridges that bend, as of a fingertip, a palm or sand; the picture remains
  visible below them, or does not."""
  shape = picture.shape[:2]
  rows, columns = np.indices(shape)
  bend = _normal_plane(rng, shape, rng.uniform(8, 30))
  angle, period = rng.uniform(0, np.pi), rng.uniform(3, 14)
  place = columns * np.cos(angle) + rows * np.sin(angle)
  wave = np.sin(2 * np.pi * place / period + rng.uniform(0, 6) * bend)
  wave = np.tanh(rng.uniform(0.5, 4) * wave)
  pores = _normal_plane(rng, shape, rng.uniform(0.4, 1.5))
  texture = _between(rng, 8, 100) * wave + rng.uniform(0, 14) * pores
  below = rng.choice((0.0, 0.4, 1.0))
  ground = below * picture + (1 - below) * rng.uniform(80, 200)
  if rng.random() < 0.7:
    ground = ground.mean(axis=2, keepdims=True)
  return _as_bytes(ground + texture[..., None])


def band_noise(picture: Picture, rng: np.random.Generator) -> Picture:
  """Noise of a few frequencies: cloth, gravel, foliage, brushed metal."""
  shape = (*picture.shape[:2], 1 if rng.random() < 0.6 else 3)
  spectrum = np.fft.fft2(rng.normal(size=shape), axes=(0, 1))
  vertical = np.fft.fftfreq(shape[0])[:, None]
  horizontal = np.fft.fftfreq(shape[1])[None]
  squeeze = _between(rng, 1, 6) if rng.random() < 0.5 else 1.0
  frequency = np.hypot(vertical * squeeze, horizontal)
  center, width = _between(rng, 0.03, 0.5), _between(rng, 0.02, 0.2)
  band = np.exp(-(((frequency - center) / width) ** 2))
  if rng.random() < 0.4:  # as natural textures have it
    band = 1 / (frequency + 0.01) ** rng.uniform(0.2, 1.5)
  texture = np.fft.ifft2(spectrum * band[..., None], axes=(0, 1)).real
  texture /= texture.std() or 1.0
  return _as_bytes(picture + _between(rng, 2, 40) * texture)


ORIGINS: tuple[Callable[[Picture, np.random.Generator], Picture], ...] = (
  sensor_noise,
  sensor_noise,
  sensor_noise,  # cameras make most pictures
  white_noise,
  white_noise,
  film_grain,
  sharpened,
  beautified,
  high_dynamic_range,
  captioned,
  upscaled,
  few_colors,
  ordered_dither,
  halftone,
  photographed_again,
  canvas,
  ridges,
  ridges,
  band_noise,
  band_noise,
)
