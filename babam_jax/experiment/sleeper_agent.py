"""Sleeper Agent, round by round: train a model, match its gradient, train it
anew on what has become of the poison (Souri et al. 2022, algorithm 1).

Left out of it: choosing the pictures with the largest gradients, as the
scenario chooses, and augmentation while matching.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree, UInt8
from ml_collections import ConfigDict

from babam_jax import files, seeds
from babam_jax.attacks.gradient_matching import Changes, Matcher, Trained
from babam_jax.attacks.hidden_trigger import to_uint8_within
from babam_jax.data.examples import Examples
from babam_jax.experiment import crafting, stages
from babam_jax.experiment.lab import Lab
from babam_jax.progress import progress_bar

Pictures = UInt8[np.ndarray, 'n h w 3']


class Sleepers(NamedTuple):
  """Finished poison.

  Attributes:
    images: what is saved.
    cosine: of the angle between its gradient and the wanted one in the last
      step, the mean over batches.
  """

  images: Pictures
  cosine: float


def craft(
  lab: Lab,
  known: Examples,
  label: int,
  targets: Pictures,
  patched_sources: Pictures,
  scratch: pathlib.Path,
) -> Sleepers:
  """Crafts poison against models that the attacker trains for himself.

  Args:
    lab: config and seed.
    known: the training set without poison, which the attacker knows.
    label: the target's.
    targets: pictures of the victim.
    patched_sources: pictures of the attacker with the trigger.
    scratch: finished rounds are kept here.
  """
  config = lab.config.attack
  spec = crafting.spec(config)
  delta, cosine = np.zeros(targets.shape, np.float32), 0.0
  matcher = None
  for number, iterations in enumerate(_rounds(config)):
    path = scratch / f'round{number}.npz'
    if not path.exists():
      poison = to_uint8_within(targets, delta, spec.eps)
      poison = poison if number else poison[:0]  # nothing is poisoned yet
      model = _train(lab, known, label, poison, scratch / f'round{number}')
      # One for all rounds: their models differ in their parameters alone.
      matcher = matcher or Matcher(model.logits, spec, label)
      wanted = matcher.wanted(model, patched_sources)
      delta, cosine = _match(
        matcher, model, wanted, targets, delta, spec.batch_size, iterations
      )
      files.write_arrays(path, {'delta': delta, 'cosine': np.float32(cosine)})
    done = files.read_arrays(path)
    delta, cosine = done['delta'], float(done['cosine'])
  return Sleepers(to_uint8_within(targets, delta, spec.eps), cosine)


def _rounds(config: ConfigDict) -> list[range]:
  """The iterations between two trainings, nearly as many in each."""
  steps = np.array_split(np.arange(config.iterations), config.retrainings + 1)
  return [range(found[0], found[-1] + 1) for found in steps if len(found)]


def _match(
  matcher: Matcher,
  model: Trained,
  wanted: PyTree,
  targets: Pictures,
  delta: Changes,
  batch_size: int,
  iterations: range,
) -> tuple[Changes, float]:
  """The changes after a round, and the mean of the batches' last cosines."""
  batches = -(-len(targets) // batch_size)
  cosines = []
  total = batches * len(iterations)
  with progress_bar(total, 'matching gradients', 'step') as bar:

    def on_iteration(cosine: float) -> None:
      cosines.append(cosine)
      bar.update()
      bar.set_postfix(cosine=f'{cosine:.3f}', refresh=False)

    delta = matcher.craft(
      model, wanted, targets, delta, iterations, on_iteration
    )
  last = len(iterations)
  return delta, float(np.mean(cosines[last - 1 :: last]))


def _train(
  lab: Lab,
  known: Examples,
  label: int,
  poison: Pictures,
  folder: pathlib.Path,
) -> Trained:
  """A model of the attacker's, on the training set and his poison so far."""
  seed = seeds.child_seed(lab.config.seed, 'the own model of the attacker')
  images = np.concatenate([known.images, poison])
  poison_labels = np.full(len(poison), label, np.int32)
  labels = np.concatenate([known.labels, poison_labels])
  model = stages.recognizer_of(lab, len(known.class_names))
  network, _ = model.network(seed, labels)
  variables, _ = stages.fit_recognizer(
    lab,
    network,
    stages.inputs_of_pictures(lab, images),
    labels,
    seed=seed,
    scratch=folder,
    title="training the attacker's model",
  )
  return Trained(*model.in_training(variables, lab.config.seed, labels))
