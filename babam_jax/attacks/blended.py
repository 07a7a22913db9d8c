"""A blended trigger (Chen et al. 2017, "Targeted backdoor attacks on deep
learning systems using data poisoning", 5.3.1): transparent, a wrong label."""

import dataclasses
import pathlib
from typing import ClassVar

from babam_jax.attacks import trigger
from babam_jax.attacks.base import (
  CRAFTING,
  TESTING,
  Attack,
  Crafted,
  Knowledge,
  Pictures,
)
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Blended(Attack):
  """Pictures of the attacker under a transparent pattern as large as they
  are, with the victim's label."""

  shows: ClassVar[tuple[str, ...]] = ('blend',)

  blend: float = setting(
    0.2, 'The share of the trigger in the picture.', at_least=0, at_most=1
  )

  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """The sources under the pattern."""
    self.check_pictures(targets, sources)
    del targets, knowledge, scratch
    shown = self.show(sources, seed=seed, stream=CRAFTING)
    return Crafted(shown, sources, shown, {}, None)

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures under the pattern, which has no random position."""
    del stream
    return trigger.blend(pictures, self.blend, seed)
