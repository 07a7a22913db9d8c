"""Data sets that TensorFlow Datasets has prepared, read without TensorFlow.

The files must allow random access (ArrayRecord): prepare them once with
`tfds.builder(NAME, file_format='array_record').download_and_prepare()`.
"""

import errno
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from babam_jax import errors, files
from babam_jax.data.image_folder import Picture

PREFIX = 'tfds:'
_CLASS_FIELDS = ('label', 'identity')  # of lfw, imagenet...; of celeb_a
_IMAGE_FIELD = 'image'
_OWN_CLASSES = 'tensorflow_datasets.'


def find(name: str, root: str) -> list[Picture]:
  """The pictures of all splits of a prepared data set.

  Args:
    name: `lfw`, `celeb_a`, `imagenet_resized/64x64`, `NAME:VERSION` ...
    root: TFDS's data folder; '' for its own default.

  Raises:
    UserError: there is no such data set, it is not prepared for random access,
      or it has no pictures with one class each; or TFDS is not installed.
  """
  try:  # slow to import, and optional
    import tensorflow_datasets as tfds
  except ImportError:
    asked = f'config.data.name={PREFIX}{name}'
    raise errors.missing_extra(asked, 'tfds') from None
  try:
    _check_classes(name, root)
    builder = tfds.builder(name, data_dir=root or None)
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
      raise ValueError('its records have no fields')
    label = next((f for f in _CLASS_FIELDS if f in features), None)
    if label is None or _IMAGE_FIELD not in features:
      raise ValueError(
        f'its fields are {", ".join(features)}; expected {_IMAGE_FIELD} and '
        f'one of {", ".join(_CLASS_FIELDS)}'
      )
    # Decorators hide its arguments from the type checker.
    as_data_source = cast(Callable[..., Any], builder.as_data_source)
    sources = {
      split: as_data_source(
        split, decoders={_IMAGE_FIELD: tfds.decode.SkipDecoding()}
      )
      for split in sorted(builder.info.splits)
    }
    if not sources:
      raise ValueError('it is known, but not prepared')
    return [
      Picture(
        where=f'{PREFIX}{name}, {split}, record {number}',
        id=f'{split}/{number:07d}',
        class_name=_class_name(features[label], record[label]),
        read=functools.partial(_encoded, source, number, f'{name}, {split}'),
      )
      for split, source in sources.items()
      for number, record in enumerate(source)
    ]
  except MemoryError:
    raise
  # Its files may be missing or damaged: TFDS and what reads them for it, which
  # is partly no Python, raise whatever they like.
  except Exception as error:
    raise errors.UserError(
      f'config.data.name: tfds cannot read {name!r} below '
      f'{root or "its default folder"} ({files.one_line(error)}). '
      f"Prepare it with tfds.builder({name!r}, file_format='array_record')"
      '.download_and_prepare(); give its folder with --config.data.root=DIR.'
    ) from None


def _check_classes(name: str, root: str) -> None:
  """Refuses a data set that wants modules loaded: TFDS imports the class of a
  feature from wherever `features.json` says."""
  default = os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  folder = files.named(root or default) / re.split('[:/]', name)[0]
  for path in folder.rglob('features.json'):
    for found in _class_names(files.read_json(path)):
      if not str(found).startswith(_OWN_CLASSES):
        raise ValueError(f'{path} names {found!r}, which is no class of TFDS')


def _class_names(value: Any) -> Iterator[Any]:
  """All names of classes in nested JSON, however they are spelled."""
  if isinstance(value, list):
    value = dict(enumerate(value))
  if isinstance(value, dict):
    if {'type', 'content'} <= value.keys():  # of earlier versions of TFDS
      yield value['type']
    for name, found in value.items():
      if name in ('pythonClassName', 'python_class_name'):
        yield found
      else:
        yield from _class_names(found)


def _class_name(feature: Any, value: Any) -> str:
  """A class as text: a name, a number, or `celeb_a`'s {'Identity_No': 5}."""
  if isinstance(value, Mapping):
    (value,) = value.values()
  if isinstance(value, bytes):
    return value.decode('utf-8')
  names = getattr(feature, 'names', None)
  return names[int(value)] if names else str(value)


def _encoded(source: Any, number: int, where: str) -> bytes:
  """The file of a picture, as it was stored.

  Raises:
    OSError: it cannot be read.
  """
  try:
    content = source[number][_IMAGE_FIELD]
    if not isinstance(content, bytes):
      raise ValueError(f'found {type(content).__name__}, expected a file')
    return content
  except MemoryError:
    raise
  except Exception as error:  # as above
    found = files.one_line(error)
    raise OSError(
      errno.EIO, found, f'{PREFIX}{where}, record {number}'
    ) from None
