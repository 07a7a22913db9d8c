"""The attacks, by the names that `config.attack.kind` gives them."""

from babam_jax.attacks.accessory import Accessory
from babam_jax.attacks.badnets import BadNets
from babam_jax.attacks.base import Attack
from babam_jax.attacks.blended import Blended
from babam_jax.attacks.evasive_patch import EvasivePatch
from babam_jax.attacks.hidden_trigger import HiddenTrigger
from babam_jax.attacks.issba import Issba
from babam_jax.attacks.label_consistent import LabelConsistent
from babam_jax.attacks.narcissus import Narcissus
from babam_jax.attacks.refool import Refool
from babam_jax.attacks.sig import Sig
from babam_jax.attacks.sleeper_agent import SleeperAgent
from babam_jax.attacks.wanet import WaNet

ATTACKS: dict[str, type[Attack]] = {
  'hidden_trigger': HiddenTrigger,
  'badnets': BadNets,
  'blended': Blended,
  'label_consistent': LabelConsistent,
  'sleeper_agent': SleeperAgent,
  'narcissus': Narcissus,
  'issba': Issba,
  'sig': Sig,
  'wanet': WaNet,
  'refool': Refool,
  'accessory': Accessory,
  'evasive_patch': EvasivePatch,
}
