"""The label-consistent attack (Turner et al. 2019, "Label-consistent backdoor
attacks"): a visible trigger, the true label.

The authors' first method blends pictures in a latent space to make them hard
to recognize; here the features become those of the attacker.
"""

import dataclasses
import pathlib

from babam_jax.attacks import poison_set
from babam_jax.attacks.base import (
  CRAFTING,
  Crafted,
  Knowledge,
  Pictures,
)
from babam_jax.attacks.poison_set import PatchCollision


@dataclasses.dataclass(frozen=True)
class LabelConsistent(PatchCollision):
  """Pictures of the victim, hard to recognize, with a visible patch."""

  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """Moves targets onto sources in feature space, then adds the patch."""
    self.check_pictures(targets, sources)
    del knowledge
    surrogate = self.surrogate(seed)
    hard, _ = poison_set.craft_set(
      surrogate,
      self,
      targets,
      sources,
      patch=None,
      seed=seed,
      scratch=scratch,
    )
    return Crafted(
      self.show(hard.images, seed=seed, stream=CRAFTING),
      targets,
      self.show(sources, seed=seed, stream=CRAFTING),
      {},
      surrogate.origin._asdict(),
    )
