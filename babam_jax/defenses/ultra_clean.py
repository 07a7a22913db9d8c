"""UltraClean (Zhao and Lao 2023, "UltraClean: a simple framework to train
robust neural networks against backdoor attacks"): poison is what a model sees
in another way once fine texture is gone.

Each training picture is denoised twice, by a median filter and by non-local
means; what counts is how far the prediction moves. The authors remove as many
of the pictures that move most as are poisoned, which nobody knows; here trusted
pictures say how far a clean picture may move. Predictions are softened, as
those of a sure model do not move at all; the median is taken within each color.
"""

import dataclasses
from typing import ClassVar

import cv2
import jax
import numpy as np
import scipy
from jaxtyping import Float, UInt8

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Need
from babam_jax.defenses.suspect import Suspect, Verdict
from babam_jax.progress import progress_bar
from babam_jax.settings import setting
from babam_jax.training import parallel

_STRENGTH = 5  # of non-local means, for brightness and colors
_TEMPLATE, _SEARCH = 7, 13  # pixels a side
_MEDIAN = 2  # pixels a side
_VIEWS = 3  # the picture, and denoised in two ways
_CHUNK = 64  # pictures at a time

Pictures = UInt8[np.ndarray, 'n h w 3']


def denoised(pictures: Pictures) -> tuple[Pictures, Pictures]:
  """Pictures after a median filter, and after non-local means."""
  medians = scipy.ndimage.median_filter(pictures, (1, _MEDIAN, _MEDIAN, 1))
  means = np.empty_like(pictures)
  for i, picture in enumerate(pictures):
    reversed_colors = np.ascontiguousarray(picture[..., ::-1])
    clean = cv2.fastNlMeansDenoisingColored(
      reversed_colors, None, _STRENGTH, _STRENGTH, _TEMPLATE, _SEARCH
    )
    means[i] = clean[..., ::-1]
  return medians, means


def moved(
  suspect: Suspect, pictures: Pictures, *, temperature: float
) -> Float[np.ndarray, ' n']:
  """How far the predictions move, from 0 to 4: the sum of two L1 distances.

  Args:
    suspect: the model.
    pictures: gray levels.
    temperature: divides the logits.
  """

  def predict(variables, images):
    logits = suspect.logits(variables, images / 255.0)
    return jax.nn.softmax(logits / temperature)

  mapped = parallel.mapped(predict, 1, 1)
  before, *after = (
    parallel.map_batches(mapped, suspect.variables, (views,), _CHUNK)
    for views in (pictures, *denoised(pictures))
  )
  return np.sum([np.abs(view - before).sum(1) for view in after], axis=0)


@dataclasses.dataclass(frozen=True)
class UltraClean(Detector):
  """Flags pictures whose prediction moves when they are denoised."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.MODEL, Need.TRUSTED})
  judges_inputs: ClassVar[bool] = True

  temperature: float = setting(
    3.0, 'What the logits are divided by before predictions.', above=0
  )
  false_rejections: float = setting(
    0.01,
    'The share of trusted pictures that may be flagged.',
    at_least=0,
    at_most=1,
  )

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Scores by how far predictions move; trusted ones set the threshold."""
    trusted, suspect = context.trusted, context.suspect
    total = len(pictures) + len(trusted)
    with progress_bar(total, 'UltraClean', 'img') as bar:

      def measure(images: Pictures) -> Float[np.ndarray, ' n']:
        found = []
        for start in range(0, len(images), _CHUNK):
          chunk = images[start : start + _CHUNK]
          found.append(moved(suspect, chunk, temperature=self.temperature))
          bar.update(len(chunk))
        return np.concatenate(found)

      scores, known = measure(pictures.images), measure(trusted.images)
    context.meter.count(_VIEWS * len(pictures))
    context.meter.count(_VIEWS * len(trusted), beforehand=True)
    threshold = np.quantile(known, 1 - self.false_rejections)
    return Verdict(scores, scores > threshold)
