"""Filters for pictures that need no training (Xu et al. 2018, "Feature
squeezing")."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from babam_jax import cpu, seeds
from babam_jax.data import processing
from babam_jax.data.examples import Examples
from babam_jax.defenses import noise
from babam_jax.settings import refuse, setting
from babam_jax.training.recognition import RecognitionSettings

Picture = UInt8[np.ndarray, 'h w 3']
Pictures = UInt8[np.ndarray, 'n h w 3']
_TEMPLATE, _SEARCH = 7, 15  # pixels a side


def _smaller(picture: Picture, times: float) -> Picture:
  """So many times smaller, and as large as before again."""
  height, width = picture.shape[:2]
  small = (max(1, round(width / times)), max(1, round(height / times)))
  image = Image.fromarray(picture).resize(small, Image.Resampling.BOX)
  return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _jpeg(picture: Picture, quality: float) -> Picture:
  return processing.as_jpeg(picture, min(100, max(1, round(quality))))


def _median(picture: Picture, radius: float) -> Picture:
  return cv2.medianBlur(picture, 2 * max(1, round(radius)) + 1)


def _non_local_means(picture: Picture, strength: float) -> Picture:
  """Buades et al. 2005; the strength is OpenCV's h."""
  return cv2.fastNlMeansDenoisingColored(
    picture, None, strength, strength, _TEMPLATE, _SEARCH
  )


# By what the number of each means: times smaller, the quality, pixels on each
# side, OpenCV's h.
FILTERS: dict[str, Callable[[Picture, float], Picture]] = {
  'smaller': _smaller,
  'jpeg': _jpeg,
  'median': _median,
  'non_local_means': _non_local_means,
}
NOISE = 'noise'  # Laplacian, of this scale in gray levels


@dataclasses.dataclass(frozen=True)
class Filters:
  """Filters, one after the other."""

  steps: tuple[Mapping[str, Any], ...] = setting(
    ({'non_local_means': 15.0}, {'jpeg': 20.0}),
    "What happens to a picture, in order, {'jpeg': 30}: 'smaller' (so many "
    "times, and as large as before again), 'jpeg' (of this quality), 'median' "
    "(pixels on each side), 'non_local_means' (OpenCV's h), 'noise' "
    '(Laplacian, gray levels).',
    at_least=1,
    each=(Mapping,),
  )

  def applied(self, examples: Examples, seed: int) -> Examples:
    """Pictures, at least one, after all steps; with their ids and labels."""
    images = self.change(examples.images, examples.ids, seed)
    return dataclasses.replace(examples, images=images)

  def change(
    self, images: Pictures, ids: Shaped[np.ndarray, ' n'], seed: int
  ) -> Pictures:
    """Pictures, at least one, after all steps; each by itself."""
    for number, (name, amount) in enumerate(self._named_steps()):
      if name == NOISE:
        images = noise.perturb(
          images,
          ids,
          np.full(len(images), float(amount)),
          mode='laplace',
          seed=seeds.child_seed(seed, f'noise of step {number}'),
        )
      else:
        images = _each(FILTERS[name], images, amount)
    return images

  def _named_steps(self) -> list[tuple[str, Any]]:
    return [item for step in self.steps for item in step.items()]

  def check(self, path: str, recognizer: RecognitionSettings) -> None:
    """Checks that there are such filters, and their numbers.

    Raises:
      UserError: a step names no filter, or its number is not above 0.
    """
    del recognizer
    names = (*FILTERS, NOISE)
    if any(len(step) != 1 for step in self.steps):
      refuse(f'{path}.steps', self.steps, "one filter a step, {'jpeg': 30}")
    for name, amount in self._named_steps():
      is_number = isinstance(amount, int | float) and amount is not True
      most = 100 if name == 'jpeg' else 1000
      if name not in names or not is_number or not 0 < amount <= most:
        expected = f'one of {", ".join(names)} with a number above 0'
        refuse(f'{path}.steps', {name: amount}, f"{expected}, {{'jpeg': 30}}")


def _each(
  function: Callable[[Picture, float], Picture],
  images: Pictures,
  amount: float,
) -> Pictures:
  """Filters pictures side by side."""
  with concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool:
    return np.stack(list(pool.map(lambda x: function(x, amount), images)))
