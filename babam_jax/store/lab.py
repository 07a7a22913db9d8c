"""What all stages share: the running experiment, and data sets that know
their origin."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from babam_jax import files
from babam_jax.config.schema import Experiment
from babam_jax.data.examples import Examples, concatenate
from babam_jax.store.artifacts import Artifact, Store
from babam_jax.store.stage import Stage

RUN_LOCK = '.run.lock'  # in a working folder: a run is at work there
# `(experiment as the stage may see it, output, scratch)`
Compute = Callable[
  [Experiment, pathlib.Path, pathlib.Path], dict[str, int] | None
]


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


@dataclasses.dataclass(frozen=True)
class Lab:
  """A running experiment.

  Attributes:
    experiment: all its settings; a stage sees its own part.
    store: the results of stages.
    workdir: the folder for this run's training metrics.
  """

  experiment: Experiment
  store: Store
  workdir: pathlib.Path

  def make(
    self,
    stage: Stage,
    compute: Compute,
    *,
    inputs: Sequence[Artifact] = (),
    facts: dict[str, Any] | None = None,
    name: str = '',
  ) -> Artifact:
    """The result of a stage, which is made if it is not stored.

    Args:
      stage: its declaration.
      compute: makes the result.
      inputs: the artifacts that it is made from.
      facts: what else it depends on: fingerprints of files, ids.
      name: replaces the stage's name, where there are several of a kind.
    """
    depends = {
      'config': stage.values(self.experiment),
      'facts': facts or {},
    }
    view = stage.view(self.experiment)
    return self.store.stage(
      name or stage.name,
      stage.version,
      depends,
      inputs,
      lambda output, scratch: compute(view, output, scratch),
    )


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
