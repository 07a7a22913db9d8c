"""The change that made a poison, on another picture.

To craft a poison takes many gradients of a network. What a PIRM must recognize
is the texture of the change, whatever picture it lies on: so each change serves
many times, turned, mirrored, weakened, its colors exchanged.
"""

import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, 's s 3']

_WEAKEST = 0.35  # of the change
_FAINTEST = 4  # gray levels: poison changes some pixel as much


def transplant(
  host: Picture, poison: Picture, original: Picture, rng: np.random.Generator
) -> Picture:
  """Changes `host` as `poison` differs from `original`.

  Args:
    host: the picture to be changed, as large as the others.
    poison: another picture with poison.
    original: the same without.
    rng: draws how the change is turned and weakened.
  """
  change = poison.astype(np.int16) - original
  change = np.rot90(change, rng.integers(4))
  if rng.random() < 0.5:
    change = change[:, ::-1]
  change = change[..., rng.permutation(3)]
  largest = max(1, int(np.abs(change).max()))
  weakest = min(1.0, max(_WEAKEST, _FAINTEST / largest))
  changed = host + np.rint(rng.uniform(weakest, 1) * change)
  return np.clip(changed, 0, 255).astype(np.uint8)
