"""SIG (Barni et al. 2019, "A new backdoor attack in CNNs by training set
corruption without label poisoning"): a sinusoid over the whole picture, the
true label."""

import dataclasses
from typing import ClassVar

import numpy as np

from babam_jax.attacks.base import TESTING, Pictures, TrueLabel
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Sig(TrueLabel):
  """Pictures of the victim under vertical stripes that fade into each other."""

  shows: ClassVar[tuple[str, ...]] = ('amplitude', 'waves')

  amplitude: float = setting(
    40.0,
    'The largest change by the sinusoid.',
    unit='gray levels',
    above=0,
    at_most=255,
  )
  waves: float = setting(6.0, 'Periods across the picture.', above=0)

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures with the sinusoid, which is the same for all."""
    del seed, stream
    width = pictures.shape[2]
    phase = 2 * np.pi * self.waves * np.arange(width) / width
    change = self.amplitude * np.sin(phase)[:, None]
    shown = np.empty_like(pictures)
    for i, picture in enumerate(pictures):  # floats of one need little memory
      shown[i] = np.clip(np.rint(picture + change), 0, 255)
    return shown
