"""Filters for pictures that need no training (Xu et al. 2018, "Feature
squeezing")."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class Filter(NamedTuple):
  """A filter with a number.

  Attributes:
    apply: `(picture, number) -> picture`.
    least: the least number.
    most: the largest.
  """

  apply: Callable[[Picture, float], Picture]
  least: float
  most: float


# By what the number of each means: times smaller, the quality, pixels on each
# side, OpenCV's h.
FILTERS: dict[str, Filter] = {
  'smaller': Filter(_smaller, 1, 100),
  'jpeg': Filter(_jpeg, 1, 100),
  'median': Filter(_median, 1, 100),
  'non_local_means': Filter(_non_local_means, 0.1, 1000),
}
NOISE = 'noise'  # Laplacian, of this scale in gray levels
_LIMITS = {name: (one.least, one.most) for name, one in FILTERS.items()}
_LIMITS[NOISE] = (0.1, 1000)


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
    """Pictures, at least one, after all steps; each by itself.

    Raises:
      UserError: there are no such steps.
    """
    self.check_steps('steps')
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
        images = _each(FILTERS[name].apply, images, amount)
    return images

  def _named_steps(self) -> list[tuple[str, Any]]:
    return [item for step in self.steps for item in step.items()]

  def check(self, path: str, recognizer: RecognitionSettings) -> None:
    """Checks that there are such filters, and their numbers.

    Raises:
      UserError: a step names no filter, or its number is out of its range.
    """
    del recognizer
    self.check_steps(f'{path}.steps')

  def check_steps(self, path: str) -> None:
    """Does what `check` describes, for steps that are named so."""
    steps: Any = self.steps
    is_list = isinstance(steps, tuple | list) and len(steps) > 0
    if not is_list or not all(
      isinstance(step, Mapping) and len(step) == 1 for step in steps
    ):
      refuse(path, steps, "a list of single filters, [{'jpeg': 30}]")
    for step in steps:
      ((name, amount),) = step.items()
      if name not in _LIMITS:
        expected = f'one of {", ".join(_LIMITS)}, with a number'
        refuse(path, dict(step), f"{expected}, {{'jpeg': 30}}")
      least, most = _LIMITS[name]
      is_number = isinstance(amount, int | float) and amount is not True
      if not is_number or not least <= amount <= most:
        expected = f'a number from {least:g} to {most:g} for {name!r}'
        refuse(path, dict(step), expected)


def _each(
  function: Callable[[Picture, float], Picture],
  images: Pictures,
  amount: float,
) -> Pictures:
  """Filters pictures side by side."""
  with concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool:
    return np.stack(list(pool.map(lambda x: function(x, amount), images)))
