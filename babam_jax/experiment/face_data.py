"""The face data: who attacks whom, decoded (paper 4.2 to 4.4)."""

import pathlib
from typing import NamedTuple

from babam_jax.config.schema import Experiment
from babam_jax.data import datasets, image_folder, scenario
from babam_jax.store.lab import (
  Dataset,
  Lab,
  Source,
  read_examples,
  write_examples,
)
from babam_jax.store.stage import Stage

SCENARIO = Stage(
  'scenario',
  2,
  (
    'scenario',
    'data.name',
    'data.classes',
    'data.min_images',
    'data.size',
    'data.box',
    'data.skip_unreadable',
    'seed',
  ),
  chooses=('data.root',),
)


class FaceData(NamedTuple):
  """The scenario, decoded.

  Attributes:
    scenario: all parts, and who attacks whom.
    train: the clean training set.
    test: the test set.
    trusted: clean pictures that only some of the defenses need.
  """

  scenario: scenario.Scenario
  train: Dataset
  test: Dataset
  trusted: Dataset


def load(lab: Lab) -> FaceData:
  """Stage: find, divide, decode and resize the pictures."""
  chosen = lab.experiment.data
  pictures = datasets.find_pictures(chosen.name, chosen.root, chosen.classes)
  divided = scenario.split(
    pictures,
    lab.experiment.scenario,
    min_images=chosen.min_images,
    seed=lab.experiment.seed,
  )

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    data = experiment.data
    parts = scenario.load_split(
      divided, data.size, data.skip_unreadable, data.box
    )
    for part, examples in parts.items():
      write_examples(output, part, examples)

  fingerprints = {
    part: image_folder.fingerprint(members)
    for part, members in divided.parts.items()
  }
  artifact = lab.make(SCENARIO, compute, facts={'fingerprints': fingerprints})
  sources = {part: Source(artifact, part) for part in scenario.PARTS}
  parts = {part: read_examples(source) for part, source in sources.items()}
  assembled = scenario.assemble(parts, divided)
  return FaceData(
    assembled,
    Dataset(assembled.train, (sources['train'],)),
    Dataset(assembled.test, (sources['test'],)),
    Dataset(assembled.trusted, (sources['trusted'],)),
  )
