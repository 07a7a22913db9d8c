"""Networks before training: which layers are pretrained, which are random."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.traverse_util
import jax
from jaxtyping import Array, PyTree

from babam_jax import errors, seeds
from babam_jax.models import heads, networks
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
  model: str,
  num_classes: int,
  width: int,
  pretrained: str,
  seed: int,
  head_kind: str = heads.DENSE,
) -> tuple[PyTree, Origin]:
  """All variables of a network before training.

  Args:
    model: one of `networks.ARCHITECTURES`.
    num_classes: the width of the last layer, which is always random.
    width: units of fc6 and fc7, where the network has them.
    pretrained: one of `weights.PRETRAINED`.
    seed: the seed of the random layers.
    head_kind: one of `heads.HEADS`.
  """
  random = _random(model, num_classes, width, head_kind)
  return _graft(model, random, pretrained, seed)


def trunk(model: str, pretrained: str, seed: int) -> tuple[PyTree, Origin]:
  """The trunk's variables alone, the same as in `variables`."""
  return _graft(model, _random_trunk(model), pretrained, seed)


def origin(
  model: str,
  num_classes: int,
  width: int,
  pretrained: str,
  head_kind: str = heads.DENSE,
) -> Origin:
  """What `variables` says of their origin, without making them."""
  random = _random(model, num_classes, width, head_kind)
  return _pretrained(model, random, pretrained)[1]


# The same functions for the same arguments: a run trains several models of a
# kind, and what draws them is compiled once.
@functools.cache
def _random(
  model: str, num_classes: int, width: int, head_kind: str
) -> Callable[[Array], PyTree]:
  """The function that draws all variables from a key."""
  return functools.partial(
    networks.random_variables, model, num_classes, width, head_kind=head_kind
  )


@functools.cache
def _random_trunk(model: str) -> Callable[[Array], PyTree]:
  """The function that draws the trunk's variables from a key."""
  return functools.partial(networks.random_trunk, model)


def _graft(
  model: str, random: Callable[[Array], PyTree], pretrained: str, seed: int
) -> tuple[PyTree, Origin]:
  """Pretrained layers, and random ones where there are none.

  Args:
    model: one of `networks.ARCHITECTURES`.
    random: draws all variables from a key.
    pretrained: one of `weights.PRETRAINED`.
    seed: the seed of the random layers.
  """
  key = seeds.jax_key(seed, 'init')
  found, origin = _pretrained(model, random, pretrained)
  names = tuple(_shapes(random))
  missing = tuple(name for name in names if name not in found)
  drawn = _only(random, missing)(key) if missing else {}
  merged = {name: (found | drawn)[name] for name in names}
  tree = flax.traverse_util.unflatten_dict(merged, sep='/')
  return {'batch_stats': {}} | tree, origin


def _pretrained(
  model: str, random: Callable[[Array], PyTree], pretrained: str
) -> tuple[dict[str, Any], Origin]:
  """The pretrained variables by name, and the origin of them all."""
  shapes = _shapes(random)
  if pretrained == 'none':
    return {}, Origin(model, '', '', [], _layers(shapes))
  found = weights.find(model, pretrained)
  there = _flat(found.variables)
  last = {f'head/{name}' for name in networks.ARCHITECTURES[model].last}
  last.add(f'head/{heads.TEMPLATES}')
  taken = {}
  for name, shape in shapes.items():
    if _layer(name) in last or (pretrained == 'trunk' and '/head/' in name):
      continue
    if name not in there or there[name].shape != shape:
      raise errors.UserError(
        f'pretrained weights of {model} ({found.source}): {name} is missing or '
        f'not of shape {list(shape)}. Get them again: '
        f'{weights.how_to_get(model)}.'
      )
    taken[name] = there[name]
  layers = _layers(taken)
  others = [layer for layer in _layers(shapes) if layer not in layers]
  return taken, Origin(model, found.source, found.sha256, layers, others)


@functools.cache
def _shapes(random: Callable[[Array], PyTree]) -> dict[str, tuple[int, ...]]:
  """The shapes of all variables by name."""
  found = _flat(jax.eval_shape(random, jax.random.key(0)))
  return {name: variable.shape for name, variable in found.items()}


@functools.cache
def _only(
  random: Callable[[Array], PyTree], names: tuple[str, ...]
) -> Callable[[Array], dict[str, Array]]:
  """The function that draws some of the random variables from a key: the
  compiler leaves out all others.

  To draw the dense layers of VGG16 takes seconds.
  """

  def some(key: Array) -> dict[str, Array]:
    drawn = _flat(random(key))
    return {name: drawn[name] for name in names}

  return jax.jit(some)


def _flat(tree: PyTree) -> dict[str, Any]:
  """A tree of variables by name, such as `params/trunk/conv1/kernel`."""
  return flax.traverse_util.flatten_dict(tree, sep='/')


def _layer(name: str) -> str:
  """'params/trunk/conv1/kernel' to 'trunk/conv1'."""
  return '/'.join(name.split('/')[1:-1])


def _layers(flat: dict[str, object]) -> list[str]:
  """The layers in `flat`, each once, in order."""
  return list(dict.fromkeys(map(_layer, flat)))
