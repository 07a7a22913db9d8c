"""How poison is made, as a config node says: `config.attack` for the attacker,
`config.pirm.poison` for what the PIRM learns from."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from babam_jax.attacks import hidden_trigger, poison_set
from babam_jax.attacks.adaptive import AdaptiveSpec
from babam_jax.attacks.hidden_trigger import CraftingSpec
from babam_jax.defenses import pirm
from babam_jax.progress import say


def spec(config: ConfigDict) -> CraftingSpec:
  """The crafting fields of a node."""
  names = (field.name for field in dataclasses.fields(CraftingSpec))
  return CraftingSpec(**{name: config[name] for name in names})


def surrogate(config: ConfigDict, seed: int) -> poison_set.Surrogate:
  """The network that a node names for the poison to collide in."""
  found = poison_set.surrogate(
    config.model, config.tap, config.pretrained, seed
  )
  say(f'surrogate {found.origin}')
  return found


def evasion(config: ConfigDict, seed: int) -> hidden_trigger.Evasion:
  """What the node says of a defense that is known; nothing by default."""
  known = config.adaptive
  adaptive = AdaptiveSpec(known.evade, known.noise_scale, known.smoothness)
  if not adaptive.evade:
    return hidden_trigger.NO_EVASION._replace(spec=adaptive, seed=seed)
  evaded = [pirm.load(path) for path in _evaded(known.pirm, known.beside)]
  evidence = pirm.evidence_of_all([model.variant for model in evaded])
  variables = tuple(model.variables for model in evaded)
  return hidden_trigger.Evasion(adaptive, evidence, variables, seed)


def _evaded(first: str, beside: Sequence[str]) -> list[pathlib.Path]:
  return [pirm.path_of(where) for where in (first, *beside)]


def depends(config: ConfigDict) -> dict[str, Any]:
  """What poison depends on: of `adaptive` and `gray` only what is used."""
  fields = config.to_dict()
  adaptive = fields.pop('adaptive')
  if not fields['gray']:
    del fields['gray']
  evaded = _evaded(adaptive.pop('pirm'), adaptive.pop('beside'))
  if any(adaptive.values()):
    fields['adaptive'] = adaptive
  if adaptive['smoothness'] or adaptive['noise_scale']:
    fields['adaptive_version'] = 2  # blurred once; noise by the seed
  if adaptive['evade']:
    fields['pirm'], *beside = map(pirm.fingerprint, evaded)
    if beside:
      fields['pirms_beside'] = beside
  return fields
