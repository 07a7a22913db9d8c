"""The one record that flows through the laboratory."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32, Shaped, UInt8


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labeled pictures. Functions take and return it; none changes it.

  Attributes:
    images: RGB pictures, gray levels 0..255.
    labels: index into `class_names`.
    ids: unique names; they survive poisoning, noise and subsetting.
    class_names: the names of the classes.
    poisoned: the ground truth. Evaluation may read it, the defense never does.
  """

  images: UInt8[np.ndarray, 'n h w 3']
  labels: Int32[np.ndarray, ' n']
  ids: Shaped[np.ndarray, ' n']
  class_names: tuple[str, ...]
  poisoned: Bool[np.ndarray, ' n']

  def __post_init__(self):
    lengths = {
      name: len(getattr(self, name))
      for name in ('images', 'labels', 'ids', 'poisoned')
    }
    if len(set(lengths.values())) != 1:
      raise ValueError(f'Examples of unequal lengths: {lengths}.')
    if self.images.dtype != np.uint8 or self.images.shape[3:] != (3,):
      raise ValueError(
        'Examples.images must be uint8 [n, h, w, 3], found '
        f'{self.images.dtype} {list(self.images.shape)}.'
      )
    if len(np.unique(self.ids)) != len(self.ids):
      raise ValueError('Examples.ids must be unique.')

  def __len__(self) -> int:
    return len(self.labels)

  def take(self, rows: Shaped[np.ndarray, ' m']) -> 'Examples':
    """The given rows (indices or a mask), in the given order."""
    return dataclasses.replace(
      self,
      images=self.images[rows],
      labels=self.labels[rows],
      ids=self.ids[rows],
      poisoned=self.poisoned[rows],
    )

  def fingerprint(self) -> str:
    """SHA-256 of pictures and ids, whatever their labels."""
    total = hashlib.sha256(np.ascontiguousarray(self.images).data)
    total.update('\0'.join(map(str, self.ids)).encode())
    return total.hexdigest()


def concatenate(parts: Sequence[Examples]) -> Examples:
  """Joins parts that share their class names, in order."""
  names = {part.class_names for part in parts}
  if len(names) != 1:
    raise ValueError(f'Cannot join examples of different classes: {names}.')
  return Examples(
    images=np.concatenate([part.images for part in parts]),
    labels=np.concatenate([part.labels for part in parts]),
    ids=np.concatenate([part.ids for part in parts]),
    class_names=parts[0].class_names,
    poisoned=np.concatenate([part.poisoned for part in parts]),
  )
