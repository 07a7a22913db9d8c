"""Folders of pictures: finding, fingerprinting and loading them.

Accepts the usual formats: JPEG, PNG, PGM/PPM, BMP, WebP, TIFF and JPEG 2000;
gray, palette, with alpha, CMYK, 16 bits, rotated by EXIF (`decoding.py`).
"""

import collections
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from babam_jax import errors, seeds
from babam_jax.data import decoding
from babam_jax.data.examples import Examples
from babam_jax.progress import progress, say

_SUFFIXES = tuple(
  '.jpg .jpeg .jpe .jfif .mpo .png .pgm .ppm .pbm .pnm .bmp .webp .tif .tiff '
  '.jp2 .j2k'.split()
)


@dataclasses.dataclass(frozen=True)
class Picture:
  """One file of a data set, not yet read.

  Attributes:
    where: the place of the file, for messages.
    id: a unique name; in a folder its path there, with forward slashes.
    class_name: the identity it shows.
    read: returns the file's content.
  """

  where: str
  id: str
  class_name: str
  read: Callable[[], bytes] = dataclasses.field(repr=False)


def in_file(path: pathlib.Path, picture_id: str, class_name: str) -> Picture:
  """A picture in a file of its own."""
  return Picture(str(path), picture_id, class_name, path.read_bytes)


def natural_order(name: str) -> list[tuple[int, str]]:
  """A sort key by which `s2` comes before `s10`."""
  pieces = re.split(r'(\d+)', name)
  return [(int(p), '') if p.isdecimal() else (-1, p) for p in pieces]


def find_images(root: pathlib.Path, field: str) -> list[str]:
  """The ids of all image files below `root`, in natural order.

  Args:
    root: the folder.
    field: the config field that named it, for the error message.

  Raises:
    UserError: there is no such folder, or no image in it.
  """
  if not root.is_dir():
    raise errors.UserError(
      f'{field}: no folder {str(root)!r}; expected a folder of images. '
      f'Give one with --{field}=DIR.'
    )
  found = [path for path in root.rglob('*') if path.is_file()]
  ids = [
    path.relative_to(root).as_posix()
    for path in found
    if path.suffix.lower() in _SUFFIXES
  ]
  if not ids:
    raise errors.UserError(
      f'{field}: no image below {str(root)!r}; expected files ending in '
      f'{", ".join(_SUFFIXES)}. Give another folder with --{field}=DIR.'
    )
  _tell_others(root, found)
  return sorted(ids, key=natural_order)


def _tell_others(root: pathlib.Path, found: Sequence[pathlib.Path]) -> None:
  """Says how many files are left out for their name; hidden ones are not."""
  others = collections.Counter(
    path.suffix.lower() or 'without an ending'
    for path in found
    if path.suffix.lower() not in _SUFFIXES and not path.name.startswith('.')
  )
  if others:
    counts = ', '.join(f'{end} ({n})' for end, n in others.most_common(5))
    say(
      f'{root}: {others.total()} files are left out, whose names do not end as '
      f"pictures' do: {counts}"
    )


def class_folders(root: pathlib.Path, field: str) -> list[Picture]:
  """The pictures of a folder of class folders.

  Args:
    root: the folder.
    field: the config field that named it, for error messages.
  """
  pictures = []
  for image_id in find_images(root, field):
    name, _, rest = image_id.partition('/')
    if rest:
      pictures.append(in_file(root / image_id, image_id, name))
  if not pictures:
    raise errors.UserError(
      f'{field}: the images in {str(root)!r} lie in no class folders; expected '
      'one folder per identity, with its images inside.'
    )
  return pictures


def fingerprint(pictures: Iterable[Picture]) -> str:
  """SHA-256 over ids, classes and contents: equal only for equal data."""
  total = hashlib.sha256()
  for picture in pictures:
    content = hashlib.sha256(picture.read()).hexdigest()
    line = f'{picture.id}\0{picture.class_name}\0{content}\n'
    total.update(line.encode(errors='surrogateescape'))
  return total.hexdigest()


def load(
  pictures: Sequence[Picture],
  class_names: tuple[str, ...],
  size: int,
  skip_unreadable: bool | None,
  crop_seed: int | None = None,
  box: tuple[float, ...] = (),
) -> Examples:
  """Decodes and resizes pictures to `size` x `size` (resized, not cropped).

  Args:
    pictures: the pictures to read.
    class_names: the names of all classes.
    size: pixels a side.
    skip_unreadable: leave unreadable pictures out; None: there is no choice.
    crop_seed: the seed of random crops at native resolution, for pictures with
      `size` pixels or more on both sides; None: all are resized.
    box: the part that is used: left, top, width and height as shares of a
      picture; (): all of it.

  Raises:
    UserError: a picture cannot be read and is not left out.
  """
  images, kept = [], []
  for picture in progress(pictures, 'reading images'):
    try:
      image = decoding.decode(picture.read()).image
    except (decoding.UnreadableError, OSError) as error:
      if not skip_unreadable:
        remedy = 'Repair or remove it'
        if skip_unreadable is not None:
          remedy += ', or leave such files out with '
          remedy += '--config.data.skip_unreadable'
        raise errors.UserError(
          f'{picture.where}: unreadable image ({error}); expected a complete '
          f'picture file. {remedy}.'
        ) from None
      logging.warning('Skipped the unreadable image %s.', picture.where)
      continue
    if crop_seed is None or min(image.size) < size:
      images.append(_resize(_part(image, box), size))
    else:
      rng = seeds.numpy_rng(crop_seed, picture.id)
      images.append(_crop(image, size, rng))
    kept.append(picture)
  return Examples(
    images=np.stack(images) if images else np.zeros((0, size, size, 3), 'u1'),
    labels=np.array([class_names.index(p.class_name) for p in kept], np.int32),
    ids=np.array([p.id for p in kept], np.str_),
    class_names=class_names,
    poisoned=np.zeros(len(kept), bool),
  )


def _part(image: Image.Image, box: tuple[float, ...]) -> Image.Image:
  """A part of a picture, to whole pixels; black beyond its borders."""
  if not box:
    return image
  left, top, width, height = np.multiply(box, 2 * image.size)
  corners = (left, top, left + width, top + height)
  first, second = np.rint(corners).astype(int).reshape(2, 2)
  second = np.maximum(second, first + 1)
  return image.crop((*first.tolist(), *second.tolist()))


def _crop(
  image: Image.Image, size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, 's s 3']:
  left, top = rng.integers(0, np.subtract(image.size, size) + 1)
  return np.asarray(image)[top : top + size, left : left + size]


def _resize(image: Image.Image, size: int) -> UInt8[np.ndarray, 's s 3']:
  return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
