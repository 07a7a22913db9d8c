"""What all stages share: the laboratory, and data sets that know their
origin."""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from babam_jax import files
from babam_jax.data.examples import Examples, concatenate
from babam_jax.store.artifacts import Artifact, Store

RUN_LOCK = '.run.lock'  # in a working folder: a run is at work there


@dataclasses.dataclass(frozen=True)
class Lab:
  """What every stage needs.

  Attributes:
    config: the whole experiment; a stage reads its own part.
    store: where results are kept.
    workdir: where this run's training metrics are written.
  """

  config: ConfigDict
  store: Store
  workdir: pathlib.Path


class Source(NamedTuple):
  """A file `<name>.npz` of `Examples` in an artifact."""

  artifact: Artifact
  name: str


class Dataset(NamedTuple):
  """Examples, and the artifacts that they come from.

  Attributes:
    examples: the pictures.
    sources: where they are stored; of two sources with the same id the later
      one holds the current picture.
  """

  examples: Examples
  sources: tuple[Source, ...]

  @property
  def inputs(self) -> list[Artifact]:
    """The artifacts that a stage which reads this data set depends on."""
    return [source.artifact for source in self.sources]


def write_examples(folder: pathlib.Path, name: str, examples: Examples) -> None:
  """Stores examples as `<folder>/<name>.npz`."""
  arrays = {
    field.name: np.asarray(getattr(examples, field.name))
    for field in dataclasses.fields(examples)
  }
  files.write_arrays(folder / f'{name}.npz', arrays)


def read_examples(source: Source) -> Examples:
  """Reads what `write_examples` stored."""
  arrays = source.artifact.arrays(source.name)
  names = tuple(str(name) for name in arrays.pop('class_names'))
  return Examples(**arrays, class_names=names)


def join(first: Dataset, second: Dataset) -> Dataset:
  """Both data sets, one after the other."""
  return Dataset(
    concatenate([first.examples, second.examples]),
    first.sources + second.sources,
  )
