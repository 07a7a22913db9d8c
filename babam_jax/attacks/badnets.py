"""BadNets (Gu et al. 2017, "BadNets: identifying vulnerabilities in the machine
learning model supply chain"): a visible trigger, a wrong label."""

import dataclasses
import pathlib

from babam_jax.attacks.base import (
  CRAFTING,
  Crafted,
  Knowledge,
  PatchAttack,
  Pictures,
)


@dataclasses.dataclass(frozen=True)
class BadNets(PatchAttack):
  """Pictures of the attacker with a visible patch and the victim's label."""

  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """The sources with the patch."""
    self.check_pictures(targets, sources)
    del targets, knowledge, scratch
    shown = self.show(sources, seed=seed, stream=CRAFTING)
    return Crafted(shown, sources, shown, {}, None)
