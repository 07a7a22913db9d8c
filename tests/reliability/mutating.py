"""Files that are broken on purpose."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

_NEAR = 200  # bytes from the start, where formats have sizes and offsets


def mutated(
  rng: np.random.Generator, content: bytes, others: Sequence[bytes] = ()
) -> bytes:
  """Bits flipped, an end cut off, a part moved or doubled, a header that lies,
  the beginning of one file before the rest of another.

  Args:
    rng: decides what happens.
    content: the sound file.
    others: other sound files.
  """
  found = bytearray(content)
  for _ in range(rng.integers(1, 4)):
    place = int(rng.integers(len(found)))
    match rng.integers(6 if others else 5):
      case 0:
        for at in rng.integers(len(found), size=rng.integers(1, 20)):
          found[at] ^= 1 << rng.integers(8)
      case 1:
        del found[max(20, place) :]
      case 2:
        part = found[place : place + rng.integers(1, _NEAR)]
        to = int(rng.integers(len(found)))
        found[to:to] = part
      case 3:
        at = int(rng.integers(min(_NEAR, len(found))))
        found[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
      case 4:
        at = int(rng.integers(min(_NEAR, len(found))))
        found[at : at + 4] = b'\xff' * 4
      case 5:
        other = others[rng.integers(len(others))]
        found[place:] = other[place:]
    if not found:
      break
  return bytes(found)


_WRONG = (None, True, -1, 0, 10**30, 0.5, float('nan'), '', 'x', '../..')
_NESTED: tuple[Any, ...] = ([], {}, [1], {'x': 1}, [[]], ['x'], {'x': {}})


def mutated_json(rng: np.random.Generator, content: bytes) -> bytes:
  """JSON whose values have changed: others, missing, of another type."""
  value = json.loads(content)
  for _ in range(rng.integers(1, 4)):
    value = _changed(rng, value)
  return json.dumps(value).encode()


def _changed(rng: np.random.Generator, value: Any) -> Any:
  nested = isinstance(value, dict | list) and len(value) > 0
  if not nested or rng.random() < 0.1:
    choices = _WRONG + _NESTED
    return choices[rng.integers(len(choices))]
  keys = list(value) if isinstance(value, dict) else list(range(len(value)))
  key = keys[rng.integers(len(keys))]
  copy = value.copy()
  if rng.random() < 0.15:
    del copy[key]
  else:
    copy[key] = _changed(rng, value[key])
  return copy
