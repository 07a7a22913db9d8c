"""Data sets that TensorFlow Datasets has prepared, read without TensorFlow.

The files must allow random access (ArrayRecord): prepare them once with
`tfds.builder(NAME, file_format='array_record').download_and_prepare()`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from babam_jax import errors
from babam_jax.data.image_folder import Picture

PREFIX = 'tfds:'
_CLASS_FIELDS = ('label', 'identity')  # of lfw, imagenet...; of celeb_a
_IMAGE_FIELD = 'image'


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
  except (
    ValueError,
    NotImplementedError,
    OSError,
    ImportError,  # of a package that the data set's reader needs
    AssertionError,  # missing files
  ) as error:
    raise errors.UserError(
      f'config.data.name: tfds cannot read {name!r} below '
      f'{root or "its default folder"} ({" ".join(str(error).split())[:200]}). '
      f"Prepare it with tfds.builder({name!r}, file_format='array_record')"
      '.download_and_prepare(); give its folder with --config.data.root=DIR.'
    ) from None
  return [
    Picture(
      where=f'{PREFIX}{name}, {split}, record {number}',
      id=f'{split}/{number:07d}',
      class_name=_class_name(features[label], record[label]),
      read=functools.partial(_encoded, source, number),
    )
    for split, source in sources.items()
    for number, record in enumerate(source)
  ]


def _class_name(feature: Any, value: Any) -> str:
  """A class as text: a name, a number, or `celeb_a`'s {'Identity_No': 5}."""
  if isinstance(value, Mapping):
    (value,) = value.values()
  if isinstance(value, bytes):
    return value.decode('utf-8')
  names = getattr(feature, 'names', None)
  return names[int(value)] if names else str(value)


def _encoded(source: Any, number: int) -> bytes:
  """The file of a picture, as it was stored."""
  return source[number][_IMAGE_FIELD]
