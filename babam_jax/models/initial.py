"""Networks before training: which layers are pretrained, which are random."""

from typing import NamedTuple

import flax.traverse_util
from jaxtyping import PyTree

from babam_jax import errors, invocation, seeds
from babam_jax.models import networks
from babam_jax.models.pretrained import weights


class Origin(NamedTuple):
  """Where a network's variables come from.

  Attributes:
    model: one of `networks.ARCHITECTURES`.
    source: where the pretrained layers come from; '' if there are none.
    sha256: the SHA-256 of the file with them; '' if there are none.
    pretrained: the names of the pretrained layers, such as `trunk/conv1`.
    random: the names of the other layers.
  """

  model: str
  source: str
  sha256: str
  pretrained: list[str]
  random: list[str]

  def __str__(self) -> str:
    if not self.pretrained:
      return f'{self.model}: all layers random'
    random = ', '.join(self.random) or 'none'
    return (
      f'{self.model}: {len(self.pretrained)} layers from {self.source}; '
      f'random: {random}'
    )


def variables(
  model: str, num_classes: int, width: int, pretrained: str, seed: int
) -> tuple[PyTree, Origin]:
  """All variables of a network before training.

  Args:
    model: one of `networks.ARCHITECTURES`.
    num_classes: the width of the last layer, which is always random.
    width: units of fc6 and fc7, where the network has them.
    pretrained: one of `weights.PRETRAINED`.
    seed: the seed of the random layers.
  """
  key = seeds.jax_key(seed, 'init')
  random = networks.random_variables(model, num_classes, width, key)
  return _graft(model, random, pretrained)


def trunk(model: str, pretrained: str, seed: int) -> tuple[PyTree, Origin]:
  """The trunk's variables alone, the same as in `variables`."""
  key = seeds.jax_key(seed, 'init')
  return _graft(model, networks.random_trunk(model, key), pretrained)


def _graft(
  model: str, random: PyTree, pretrained: str
) -> tuple[PyTree, Origin]:
  """Replaces random layers by pretrained ones."""
  flat = flax.traverse_util.flatten_dict(random, sep='/')
  if pretrained == 'none':
    return random, Origin(model, '', '', [], _layers(flat))
  found = weights.find(model, pretrained)
  last = {f'head/{name}' for name in networks.ARCHITECTURES[model].last}
  wanted = [
    name
    for name in flat
    if _layer(name) not in last
    and not (pretrained == 'trunk' and '/head/' in name)
  ]
  there = flax.traverse_util.flatten_dict(found.variables, sep='/')
  for name in wanted:
    if name not in there or there[name].shape != flat[name].shape:
      raise errors.UserError(
        f'pretrained weights of {model} ({found.source}): {name} is missing or '
        f'not of shape {list(flat[name].shape)}. Get them again: '
        f'{invocation.line("weights")} --model={model} fetch (or convert FILE).'
      )
  grafted = {name: there[name] for name in wanted}
  layers = _layers(grafted)
  rest = [layer for layer in _layers(flat) if layer not in layers]
  merged = flax.traverse_util.unflatten_dict(flat | grafted, sep='/')
  merged = {'batch_stats': {}} | merged
  return merged, Origin(model, found.source, found.sha256, layers, rest)


def _layer(name: str) -> str:
  """'params/trunk/conv1/kernel' to 'trunk/conv1'."""
  return '/'.join(name.split('/')[1:-1])


def _layers(flat: dict[str, object]) -> list[str]:
  """The layers in `flat`, each once, in order."""
  return list(dict.fromkeys(map(_layer, flat)))
