"""Labeled pictures: the record that all parts of the package exchange."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32, Shaped, UInt8

from babam_jax import errors


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
    """SHA-256 of pictures and ids; labels make no difference."""
    total = hashlib.sha256(np.ascontiguousarray(self.images).data)
    names = '\0'.join(map(str, self.ids))
    total.update(names.encode(errors='surrogateescape'))
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


def examples(
  images: UInt8[np.ndarray, 'n h w 3'],
  labels: Sequence[int] | Sequence[str] | Shaped[np.ndarray, ' n'],
  class_names: Sequence[str] | None = None,
  ids: Sequence[str] | None = None,
) -> Examples:
  """Pictures of one size with their labels, as `Examples`.

  Args:
    images: uint8 RGB pictures, gray levels 0..255.
    labels: the class of each picture, as its number, from 0, or its name.
    class_names: the names of all classes; by default those among the labels in
      alphabetical order, or '0', '1', ...
    ids: unique names of the pictures, on which their noise depends; by default
      '0', '1', ...

  Raises:
    UserError: a wrong dtype or shape, lengths that differ, a label without a
      class, or a repeated id.
  """
  try:
    images, labels = np.asarray(images), np.asarray(labels)
  except ValueError:  # rows of unequal shapes
    raise errors.UserError(
      'images, labels: found pictures of different shapes, expected uint8 '
      '[n, h, w, 3] and a label for each. Resize them.'
    ) from None
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
    raise errors.UserError(
      f'images: found {images.dtype} {list(images.shape)}, expected uint8 '
      '[n, h, w, 3]. Convert them.'
    )
  if labels.shape != (len(images),):
    raise errors.UserError(
      f'labels: found the shape {list(labels.shape)}, expected '
      f'[{len(images)}]: one for each picture.'
    )
  labels = _checked(labels)
  if class_names is None:
    class_names = _class_names(labels)
  different = len(set(class_names))
  if different != len(class_names):
    raise errors.UserError(
      f'class_names: found {len(class_names)} names, {different} of them '
      'different; expected one for each class. Leave repeated ones out.'
    )
  numbers = _numbers(labels, tuple(class_names))
  names = np.arange(len(images)) if ids is None else ids
  names = np.asarray(names, np.str_)
  if names.shape != labels.shape or len(np.unique(names)) != len(names):
    raise errors.UserError(
      f'ids: found {len(np.unique(names))} different ones, expected '
      f'{len(images)}: one for each picture.'
    )
  clean = np.zeros(len(images), bool)  # the truth is not known here
  return Examples(images, numbers, names, tuple(class_names), clean)


def _checked(labels: Shaped[np.ndarray, ' n']) -> Shaped[np.ndarray, ' n']:
  """Whole numbers or names; names that came as Python objects, as pandas has
  them, are converted. All others are refused."""
  if labels.dtype.kind == 'O' and all(isinstance(x, str) for x in labels):
    return labels.astype(np.str_)
  if labels.dtype.kind not in 'iuU':
    raise errors.UserError(
      f'labels: found {labels.dtype}, expected whole numbers or names. Convert '
      'them.'
    )
  if labels.dtype.kind != 'U' and labels.max(initial=0) > len(labels) * 1000:
    raise errors.UserError(
      f'labels: found {labels.max()} among {len(labels)}, expected class '
      'numbers from 0 on. Number the classes, or give their names.'
    )
  return labels


def _class_names(labels: Shaped[np.ndarray, ' n']) -> list[str]:
  if labels.dtype.kind == 'U':
    return np.unique(labels).tolist()
  return [str(n) for n in range(max(labels.tolist(), default=-1) + 1)]


def _numbers(
  labels: Shaped[np.ndarray, ' n'], class_names: tuple[str, ...]
) -> Int32[np.ndarray, ' n']:
  if labels.dtype.kind == 'U':
    number_of = {name: n for n, name in enumerate(class_names)}
    numbers = np.array([number_of.get(name, -1) for name in labels.tolist()])
  else:
    numbers = labels
  wrong = labels[(numbers < 0) | (numbers >= len(class_names))]
  if len(wrong):
    raise errors.UserError(
      f'labels: found {wrong[0].item()!r}, expected one of the '
      f'{len(class_names)} classes of class_names, by number or name.'
    )
  return numbers.astype(np.int32)
