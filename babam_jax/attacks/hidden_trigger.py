"""The hidden trigger: the paper's attack (3.3, Eq. 5; Saha et al. 2020).

Pictures of the victim are changed, within `eps`, until their features are
those of the patched attacker. They keep the victim's label and look.
"""

import dataclasses
import pathlib
from typing import Any

from babam_jax.attacks import collision, poison_set
from babam_jax.attacks.adaptive import Adaptive
from babam_jax.attacks.base import Crafted, Knowledge, Pictures
from babam_jax.attacks.poison_set import PatchCollision
from babam_jax.defenses import pirm
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class HiddenTrigger(PatchCollision):
  """The attack of the paper."""

  adaptive: Adaptive = setting(
    Adaptive(), 'What an attacker who knows the defense does about it.'
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
    """Moves each target onto a patched source in feature space."""
    self.check_pictures(targets, sources)
    del knowledge
    surrogate = self.surrogate(seed)
    poison, patched = poison_set.craft_set(
      surrogate,
      self,
      targets,
      sources,
      patch=self.make_patch(seed),
      seed=seed,
      scratch=scratch,
      evasion=self.evasion(seed),
    )
    return Crafted(
      poison.images,
      targets,
      patched[poison.pairs],
      {
        'distance_start': float(poison.distance_start.mean()),
        'distance_end': float(poison.distance_end.mean()),
      },
      surrogate.origin._asdict(),
    )

  def evasion(self, seed: int) -> collision.Evasion:
    """What the attacker does about the defense; nothing by default."""
    adaptive = self.adaptive
    if not adaptive.evade:
      return collision.NO_EVASION._replace(spec=adaptive, seed=seed)
    evaded = [pirm.load(pirm.path_of(where)) for where in self._evaded]
    evidence = pirm.evidence_of_all([model.variant for model in evaded])
    variables = tuple(model.variables for model in evaded)
    return collision.Evasion(adaptive, evidence, variables, seed)

  @property
  def _evaded(self) -> tuple[str, ...]:
    if not self.adaptive.evade:
      return ()
    return (self.adaptive.pirm, *self.adaptive.ensemble)

  def facts(self, field: str) -> dict[str, Any]:
    """The weights of the surrogate, and the PIRMs that are evaded."""
    node = f'{field.removeprefix("config.")}.adaptive'
    names = ('pirm', *['ensemble'] * len(self.adaptive.ensemble))
    for name, where in zip(names, self._evaded, strict=False):
      pirm.check_file(f'{node}.{name}', where)
    evaded = [pirm.fingerprint(pirm.path_of(where)) for where in self._evaded]
    found = super().facts(field) | {'pirms': evaded}
    if self.adaptive.noise_scale:
      # A key for each row since then; a new `version` would make all other
      # poison anew, too.
      found['noise'] = 'by row'
    return found
