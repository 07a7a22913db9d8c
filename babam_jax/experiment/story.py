"""The pictures that the report shows, picked from the stages' results."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses.calibrated_noise import CalibratedNoise
from babam_jax.defenses.suspect import Verdict
from babam_jax.evaluation import figures
from babam_jax.evaluation.canvas import Figure
from babam_jax.experiment.defending import Defended, Detection
from babam_jax.experiment.face_data import FaceData
from babam_jax.store.lab import Dataset, Lab

EPSILONS = (0.5, 0.1, 0.05, 0.01, 0.005)  # Figure 3 and section 4.12
_SHOWN = 4  # examples of each kind

Pictures = UInt8[np.ndarray, 'n h w 3']


class Story(NamedTuple):
  """What the report shows.

  Attributes:
    targets: originals of some poisons.
    poisons: the poisons made of them.
    patched_sources: the pictures that poison collides with in feature space.
    patched_tests: the attacker at test time, with the trigger.
    flagged: training pictures that were flagged.
    sanitized: the same after the defense.
    noise_grid: rows: a clean and a poisoned picture of the target; columns: no
      noise, then `EPSILONS` (Figure 3).
    detection: the detector's verdicts.
    poisoned: the ground truth of the training set.
  """

  targets: Pictures
  poisons: Pictures
  patched_sources: Pictures
  patched_tests: Pictures
  flagged: Pictures
  sanitized: Pictures
  noise_grid: UInt8[np.ndarray, 'r c h w 3']
  detection: Detection
  poisoned: Bool[np.ndarray, ' n']


def _noise_grid(
  lab: Lab, untrusted: Examples, target_label: int
) -> UInt8[np.ndarray, 'r c h w 3']:
  """One clean and one poisoned picture of the target under each epsilon."""
  chosen = lab.experiment.defense.treatment
  noise = chosen if isinstance(chosen, CalibratedNoise) else CalibratedNoise()
  mine = untrusted.take(untrusted.labels == target_label)
  rows = [np.flatnonzero(mine.poisoned == bad)[0] for bad in (False, True)]
  flags = np.isin(np.arange(len(mine)), rows)
  asked = Verdict(flags.astype(np.float64), flags)
  columns = [mine.images[rows]]
  for epsilon in EPSILONS:
    step = dataclasses.replace(noise, epsilon=epsilon)
    treated = step.treat(mine, asked, lab.experiment.seed)
    columns.append(treated.images[rows])
  return np.stack(columns, axis=1)


def _some(lab: Lab, count: int) -> Int[np.ndarray, ' m']:
  """A few row numbers, at random."""
  rng = seeds.numpy_rng(lab.experiment.seed, 'shown')
  return np.sort(rng.choice(count, min(_SHOWN, count), replace=False))


def tell(
  lab: Lab,
  data: FaceData,
  poison: Dataset,
  untrusted: Dataset,
  defended: Defended,
  patched: Dataset,
) -> Story:
  """Picks the pictures."""
  collisions = poison.sources[0].artifact.arrays('collisions')
  rows = _some(lab, len(poison.examples))  # shares are the first rows
  flagged = untrusted.examples.ids[defended.detection.train.flags]
  kept = np.isin(defended.treated.examples.ids, flagged)
  treated = defended.treated.examples.take(kept)
  seen = treated.take(_some(lab, len(treated))) if len(treated) else treated
  before = np.array(
    [np.flatnonzero(untrusted.examples.ids == i)[0] for i in seen.ids], int
  )
  tests = patched.examples.images
  return Story(
    targets=collisions['originals'][rows],
    poisons=poison.examples.images[rows],
    patched_sources=collisions['patched_sources'][rows],
    patched_tests=tests[_some(lab, len(tests))],
    flagged=untrusted.examples.images[before],
    sanitized=seen.images,
    noise_grid=_noise_grid(lab, untrusted.examples, data.scenario.target_label),
    detection=defended.detection,
    poisoned=untrusted.examples.poisoned,
  )


def draw(
  story: Story,
  results: dict[str, Any],
  histories: dict[str, list[dict[str, Any]]],
  threshold: float | None,
) -> dict[str, Figure]:
  """The report's figures, by name.

  Args:
    story: the pictures.
    results: the contents of `metrics.json`.
    histories: the training metrics of each model that has them.
    threshold: scores above it are flagged; None if the detector has none.
  """
  drawn = {
    'attack': figures.attack_pictures(
      story.targets,
      story.poisons,
      story.patched_sources,
      story.patched_tests,
    ),
    'noise': figures.noise_grid(story.noise_grid, EPSILONS),
    'before_and_after': figures.before_and_after(results['models']),
  }
  if histories:  # templates that are means are not trained
    drawn['training'] = figures.training_curves(histories)
  train, test = story.detection.train, story.detection.test
  if np.ptp(train.scores):  # the scores rank the pictures
    test_scores = np.zeros(0) if test is None else test.scores
    drawn['detection'] = figures.detection(
      train.scores, story.poisoned, test_scores, threshold
    )
  if len(story.flagged):
    drawn['defense'] = figures.defense_pictures(story.flagged, story.sanitized)
  return drawn
