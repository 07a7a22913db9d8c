"""A blended trigger (Chen et al. 2017, "Targeted backdoor attacks on deep
learning systems using data poisoning", 5.3.1): transparent, a wrong label."""

import dataclasses
from typing import ClassVar

from babam_jax.attacks import trigger
from babam_jax.attacks.base import TESTING, Pictures, WrongLabel
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Blended(WrongLabel):
  """Pictures of the attacker under a transparent pattern as large as they
  are, with the victim's label."""

  shows: ClassVar[tuple[str, ...]] = ('blend',)

  blend: float = setting(
    0.2, 'The share of the trigger in the picture.', at_least=0, at_most=1
  )

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures under the pattern, which has no random position."""
    del stream
    return trigger.blend(pictures, self.blend, seed)
