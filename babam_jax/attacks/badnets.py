"""BadNets (Gu et al. 2017, "BadNets: identifying vulnerabilities in the machine
learning model supply chain"): a visible trigger, a wrong label."""

import dataclasses

from babam_jax.attacks.base import PatchAttack, WrongLabel


@dataclasses.dataclass(frozen=True)
class BadNets(WrongLabel, PatchAttack):
  """Pictures of the attacker with a visible patch and the victim's label."""
