"""The pictures that the report shows, picked from the stages' results."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.figure import Figure

from babam_jax import seeds
from babam_jax.data.examples import Examples
from babam_jax.defenses import noise
from babam_jax.evaluation import figures
from babam_jax.experiment.flagging import Flags
from babam_jax.experiment.lab import Dataset, Lab
from babam_jax.experiment.stages import Data, Scores

EPSILONS = (0.5, 0.1, 0.05, 0.01, 0.005)  # Figure 3 and section 4.12
_SHOWN = 4  # examples of each kind

Pictures = UInt8[np.ndarray, 'n h w 3']


class Story(NamedTuple):
  """What the report shows.

  Attributes:
    targets: originals of some poisons.
    poisons: the poisons made of them.
    patched_sources: what each poison collides with in feature space.
    patched_tests: the attacker at test time, with the trigger.
    flagged: training pictures that were flagged.
    sanitized: the same after the defense.
    noise_grid: rows: a clean and a poisoned picture of the target; columns: no
      noise, then `EPSILONS` (Figure 3).
    scores: the PIRM's scores of the training set.
    poisoned: the ground truth to them.
    test_scores: its scores of the clean test pictures.
  """

  targets: Pictures
  poisons: Pictures
  patched_sources: Pictures
  patched_tests: Pictures
  flagged: Pictures
  sanitized: Pictures
  noise_grid: UInt8[np.ndarray, 'r c h w 3']
  scores: Float[np.ndarray, ' n']
  poisoned: Bool[np.ndarray, ' n']
  test_scores: Float[np.ndarray, ' m']


def _noise_grid(
  lab: Lab, untrusted: Examples, target_label: int
) -> UInt8[np.ndarray, 'r c h w 3']:
  """One clean and one poisoned picture of the target under each epsilon."""
  config = lab.config.defense
  is_target = untrusted.labels == target_label
  rows = [
    np.flatnonzero(is_target & (untrusted.poisoned == poisoned))[0]
    for poisoned in (False, True)
  ]
  shown = untrusted.take(np.array(rows))
  sensitivity = noise.sensitivities(
    noise.in_chunks(untrusted), np.array([target_label]), config.distance
  )
  shares = np.array([sensitivity[name] for name in shown.ids])
  columns = [shown.images] + [
    noise.perturb(
      shown.images,
      shown.ids,
      shares / epsilon,
      mode=config.mode,
      seed=lab.config.seed,
    )
    for epsilon in EPSILONS
  ]
  return np.stack(columns, axis=1)


def _some(lab: Lab, count: int) -> Int[np.ndarray, ' m']:
  """A few row numbers, at random."""
  rng = seeds.numpy_rng(lab.config.seed, 'shown')
  return np.sort(rng.choice(count, min(_SHOWN, count), replace=False))


def tell(
  lab: Lab,
  data: Data,
  poison: Dataset,
  scored: Scores,
  flagged: Flags,
  sanitized: Dataset,
  untrusted: Dataset,
  patched: Dataset,
) -> Story:
  """Picks the pictures."""
  collisions = poison.sources[0].artifact.arrays('collisions')
  rows = _some(lab, len(poison.examples))  # a share: the first of all poisons
  kept = np.isin(sanitized.examples.ids, untrusted.examples.ids[flagged.flags])
  treated = sanitized.examples.take(kept)
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
    scores=scored.train,
    poisoned=untrusted.examples.poisoned,
    test_scores=scored.test,
  )


def draw(
  story: Story,
  results: dict[str, Any],
  histories: dict[str, list[dict[str, float]]],
  threshold: float,
) -> dict[str, Figure]:
  """The report's figures, by name."""
  drawn = {
    'attack': figures.attack_pictures(
      story.targets,
      story.poisons,
      story.patched_sources,
      story.patched_tests,
    ),
    'detection': figures.detection(
      story.scores, story.poisoned, story.test_scores, threshold
    ),
    'noise': figures.noise_grid(story.noise_grid, EPSILONS),
    'before_and_after': figures.before_and_after(results['models']),
    'training': figures.training_curves(histories),
  }
  if len(story.flagged):
    drawn['defense'] = figures.defense_pictures(story.flagged, story.sanitized)
  return drawn
