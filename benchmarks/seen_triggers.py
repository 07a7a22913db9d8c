"""Triggers that one can see, as both leads to them are judged."""

from babam_jax.attacks.accessory import ACCESSORIES, Accessory
from babam_jax.attacks.badnets import PATCHES, BadNets
from babam_jax.attacks.base import Attack
from babam_jax.attacks.blended import Blended
from babam_jax.attacks.sig import Sig
from babam_jax.attacks.wanet import WaNet


def triggers() -> dict[str, Attack]:
  """Those that are tried, by name."""
  found: dict[str, Attack] = {
    f'BadNets {patch} {size} px': BadNets(trigger_size=size, patch=patch)
    for patch in PATCHES
    for size in (30, 16)
  }
  found |= {f'blended {share}': Blended(blend=share) for share in (0.1, 0.2)}
  found |= {'SIG': Sig(), 'WaNet': WaNet()}
  return found | {name: Accessory(accessory=name) for name in ACCESSORIES}
