"""How much of crafting a device is given at once.

A CPU is busy with one step of one batch. A GPU would wait for the host between
steps, and a batch is too small for it: it is given several steps and several
batches. The poison is the same, up to rounding.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from babam_jax.training import parallel

_STEPS = 10
_MOST_PICTURES = 1024  # on a device
_SHARE_OF_MEMORY = 0.5


def steps_at_once() -> int:
  """Steps that are taken without a look at the distances in between."""
  return 1 if parallel.device_memory() is None else _STEPS


def pictures_at_once(
  fn: Callable[..., Any], params: PyTree, picture: jax.ShapeDtypeStruct
) -> int:
  """How many pictures the devices take at once; 0 where a batch is enough.

  Args:
    fn: `(params, pictures) -> ...`, what is computed, gradients included.
    params: what all pictures share.
    picture: the shape and the dtype of one.
  """
  memory = parallel.device_memory()
  if memory is None:
    return 0
  for_one, for_two = (
    _most_bytes(
      fn, params, jax.ShapeDtypeStruct((n, *picture.shape), picture.dtype)
    )
    for n in (1, 2)
  )
  each = for_two - for_one
  fitting = (_SHARE_OF_MEMORY * memory - (for_one - each)) // each
  here = max(1, min(_MOST_PICTURES, int(fitting)))
  # All processes take as many, whatever their devices are.
  return int(parallel.from_first(np.array(here))) * parallel.num_devices()


def _most_bytes(fn: Callable[..., Any], *arguments: Any) -> int:
  """The memory that a function needs if it frees what it no longer needs.

  The compiled function needs less: it does not store what it uses at once.
  """
  return _peak(jax.make_jaxpr(fn)(*arguments).jaxpr)


def _peak(jaxpr: Any) -> int:
  """The most bytes that are alive at a time, the arguments among them."""
  last_use = {
    value: place
    for place, equation in enumerate(jaxpr.eqns)
    for value in _variables(equation.invars)
  }
  arguments = [*jaxpr.invars, *jaxpr.constvars]
  last_use |= dict.fromkeys(
    arguments + _variables(jaxpr.outvars), len(jaxpr.eqns)
  )
  alive = peak = sum(map(_bytes, arguments))
  for place, equation in enumerate(jaxpr.eqns):
    freed = {v for v in _variables(equation.invars) if last_use[v] == place}
    inner = (
      getattr(value, 'jaxpr', value) for value in equation.params.values()
    )
    within = sum(
      _peak(found) - sum(map(_bytes, found.invars))
      for found in inner
      if hasattr(found, 'eqns')
    )
    results = sum(map(_bytes, equation.outvars))
    peak = max(peak, alive + max(within, results))
    kept = sum(_bytes(v) for v in equation.outvars if v in last_use)
    alive += kept - sum(map(_bytes, freed))
  return peak


def _variables(values: list[Any]) -> list[Any]:
  """The values that are not constants."""
  return [value for value in values if not hasattr(value, 'val')]


def _bytes(value: Any) -> int:
  return math.prod(value.aval.shape) * value.aval.dtype.itemsize
