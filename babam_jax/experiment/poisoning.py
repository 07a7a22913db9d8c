"""The attack: what the attacker slips into the training set (paper 3.3), and
what he shows at test time (4.5)."""

import dataclasses
import pathlib

import numpy as np

from babam_jax import files, seeds
from babam_jax.attacks import poison_set
from babam_jax.attacks.base import Attack, Crafted, Knowledge
from babam_jax.config.schema import Experiment
from babam_jax.data.examples import Examples
from babam_jax.experiment import face_data
from babam_jax.experiment.face_data import FaceData
from babam_jax.experiment.features import recognition_of
from babam_jax.models.pretrained import weights
from babam_jax.store.lab import (
  Dataset,
  Lab,
  Source,
  read_examples,
  write_examples,
)
from babam_jax.store.stage import Stage

_TRIGGER = 'trigger'

# Poison depends only on its pictures: other tasks with the same share it.
POISON = Stage(
  'poison',
  5,
  ('attack.method', 'attack.passes', 'seed'),
  after=lambda _: (face_data.SCENARIO,),
)
# Attackers who know the recognizer's training make poison that depends on it.
INFORMED_POISON = dataclasses.replace(
  POISON,
  reads=(
    *POISON.reads,
    'recognizer',
    '-recognizer.checkpoint_every',
    '-evaluation.batch_size',
  ),
)
SHOWN = Stage(
  'patched',
  2,
  ('-attack.method', 'evaluation.positions', 'seed'),
  after=lambda experiment: (
    face_data.SCENARIO,
    *_learned_in(experiment.attack.method),
  ),
)


def _learned_in(method: Attack) -> tuple[Stage, ...]:
  """The stage in which an attack learns its trigger, if it does."""
  return (stage_of(method),) if method.learns_trigger else ()


def stage_of(method: Attack) -> Stage:
  """The stage that makes an attacker's poison."""
  return INFORMED_POISON if method.knows_training else POISON


def craft(lab: Lab, data: FaceData) -> Dataset:
  """Stage: the poison, with the victim's label."""
  targets = data.scenario.poison_targets
  sources = data.scenario.poison_sources
  method = lab.experiment.attack.method
  stage = stage_of(method)

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    rows, source_rows = poison_set.pair_up(
      seeds.numpy_rng(experiment.seed, 'poison pairs'),
      len(targets),
      len(sources),
      experiment.attack.passes,
    )
    crafted = experiment.attack.method.craft(
      targets.images[rows],
      sources.images[source_rows],
      seed=experiment.seed,
      knowledge=_knowledge(experiment, data),
      scratch=scratch,
    )
    passes = (np.arange(len(rows)) // len(targets)).tolist()
    ids = [
      f'poison{number}/{targets.ids[row]}'
      for number, row in zip(passes, rows, strict=True)
    ]
    poison = Examples(
      images=crafted.images,
      labels=np.zeros(len(rows), np.int32),
      ids=np.array(ids, np.str_),
      class_names=('target',),
      poisoned=np.ones(len(rows), bool),
    )
    write_examples(output, 'poison', poison)
    if method.learns_trigger:
      files.write_arrays(output / f'{_TRIGGER}.npz', dict(crafted.trigger))
    _write_story(output, crafted)

  facts = method.facts('config.attack') | {
    'targets': targets.fingerprint(),
    'sources': sources.fingerprint(),
  }
  inputs = []
  if method.knows_training:
    chosen = lab.experiment.recognizer
    inputs = data.train.inputs
    facts['recognizer'] = weights.fingerprint(chosen.model, chosen.pretrained)
  artifact = lab.make(stage, compute, inputs=inputs, facts=facts)
  source = Source(artifact, 'poison')
  return Dataset(_labeled(lab, read_examples(source), data), (source,))


def _knowledge(experiment: Experiment, data: FaceData) -> Knowledge | None:
  if not experiment.attack.method.knows_training:
    return None
  return Knowledge(
    data.train.examples,
    data.scenario.target_label,
    recognition_of(experiment),
  )


def _labeled(lab: Lab, poison: Examples, data: FaceData) -> Examples:
  """The share of the poison that is used, with the victim's label."""
  share = lab.experiment.attack.share
  used = poison.take(np.arange(max(1, round(share * len(poison)))))
  label = np.int32(data.scenario.target_label)
  return dataclasses.replace(
    used,
    labels=np.full(len(used), label),
    class_names=data.train.examples.class_names,
  )


def _write_story(output: pathlib.Path, crafted: Crafted) -> None:
  """Writes what the report tells about the poison."""
  change = crafted.images.astype(np.int16) - crafted.originals
  summary = {'count': len(change), 'linf': int(np.abs(change).max())}
  files.write_json(output / 'summary.json', summary | crafted.summary)
  files.write_json(output / 'origin.json', crafted.origin)
  files.write_arrays(
    output / 'collisions.npz',
    {'originals': crafted.originals, 'patched_sources': crafted.shown},
  )


def show(lab: Lab, data: FaceData, poison: Dataset) -> Dataset:
  """Stage: the attacker shows the trigger, at several random positions for
  each of the source's test pictures (paper 4.5)."""
  source_test = data.scenario.source_test
  crafted = poison.sources[0].artifact

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    rows = np.repeat(
      np.arange(len(source_test)), experiment.evaluation.positions
    )
    ids = [f'{source_test.ids[row]}@{n}' for n, row in enumerate(rows)]
    attack = experiment.attack.method
    if attack.learns_trigger:
      attack = attack.showing(crafted.arrays(_TRIGGER))
    shown = Examples(
      images=attack.show(source_test.images[rows], seed=experiment.seed),
      labels=source_test.labels[rows],
      ids=np.array(ids),
      class_names=source_test.class_names,
      poisoned=source_test.poisoned[rows],
    )
    write_examples(output, 'patched', shown)

  method = lab.experiment.attack.method
  facts = {name: getattr(method, name) for name in method.shows}
  facts |= method.shown_facts('config.attack')
  # Who shows it: attacks that inherit `show` share the pictures.
  facts['show'] = [type(method).show.__qualname__, method.version]
  inputs = [*data.test.inputs, *([crafted] if method.learns_trigger else [])]
  artifact = lab.make(SHOWN, compute, inputs=inputs, facts=facts)
  source = Source(artifact, 'patched')
  return Dataset(read_examples(source), (source,))
