"""The attack: what the attacker slips into the training set, and what he shows
at test time. The paper's is the hidden trigger; the others are there to prove
defenses where they are known to work."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from babam_jax import files, seeds
from babam_jax.attacks import poison_set, trigger
from babam_jax.data.examples import Examples
from babam_jax.experiment import crafting, sleeper_agent
from babam_jax.experiment.lab import (
  Dataset,
  Lab,
  Source,
  read_examples,
  write_examples,
)
from babam_jax.experiment.stages import Data
from babam_jax.models.pretrained import weights

Pictures = UInt8[np.ndarray, 'n h w 3']


class Material(NamedTuple):
  """What poison is made of.

  Attributes:
    targets: pictures of the target, one for each poison.
    sources: pictures of the source, one for each.
    known: the training set without poison, which some attackers know.
    label: the target's.
    scratch: what is kept there survives a kill.
  """

  targets: Pictures
  sources: Pictures
  known: Examples
  label: int
  scratch: pathlib.Path


class Made(NamedTuple):
  """Poison, and what it is made of.

  Attributes:
    images: the poison.
    originals: the pictures that were changed.
    shown: what the attacker shows, for each of them: a picture of himself with
      the trigger.
    summary: figures for the report.
    origin: of the surrogate's weights; None without one.
  """

  images: Pictures
  originals: Pictures
  shown: Pictures
  summary: dict[str, Any]
  origin: dict[str, Any] | None


def show_trigger(lab: Lab, images: Pictures, name: str) -> Pictures:
  """Pictures as the attacker shows them; `name` draws the places."""
  config = lab.config.attack
  if config.kind == 'blended':
    return trigger.blend(images, config.blend, lab.config.seed)
  return trigger.show(images, config.trigger_size, lab.config.seed, name)


def _hidden_trigger(lab: Lab, given: Material) -> Made:
  """Perturbs pictures of the target until they collide with the patched
  source (paper 3.3); label and look are the target's."""
  config = lab.config.attack
  surrogate = crafting.surrogate(config, lab.config.seed)
  poison, patched = poison_set.craft_set(
    surrogate,
    crafting.spec(config),
    given.targets,
    given.sources,
    trigger_size=config.trigger_size,
    seed=lab.config.seed,
    scratch=given.scratch,
    evasion=crafting.evasion(config, lab.config.seed),
  )
  distances = {
    'distance_start': float(poison.distance_start.mean()),
    'distance_end': float(poison.distance_end.mean()),
  }
  origin = surrogate.origin._asdict()
  return Made(
    poison.images, given.targets, patched[poison.pairs], distances, origin
  )


def _badnets(lab: Lab, given: Material) -> Made:
  """Pictures of the source with a visible trigger and the target's label (Gu
  et al. 2017); with a transparent one if the kind is 'blended'."""
  shown = show_trigger(lab, given.sources, 'crafting positions')
  return Made(shown, given.sources, shown, {}, None)


def _label_consistent(lab: Lab, given: Material) -> Made:
  """Pictures of the target, made hard to recognize, with a visible trigger
  and their true label (Turner et al. 2019, whose first method blends them in a
  latent space; here their features become those of the source)."""
  config = lab.config.attack
  surrogate = crafting.surrogate(config, lab.config.seed)
  hard, _ = poison_set.craft_set(
    surrogate,
    crafting.spec(config),
    given.targets,
    given.sources,
    trigger_size=None,
    seed=lab.config.seed,
    scratch=given.scratch,
  )
  return Made(
    show_trigger(lab, hard.images, 'crafting positions'),
    given.targets,
    show_trigger(lab, given.sources, 'crafting positions'),
    {},
    surrogate.origin._asdict(),
  )


def _sleeper_agent(lab: Lab, given: Material) -> Made:
  """Pictures of the target whose training gradient is that of the patched
  source under the target's label (Souri et al. 2022)."""
  shown = show_trigger(lab, given.sources, 'crafting positions')
  made = sleeper_agent.craft(
    lab,
    given.known,
    given.label,
    given.targets,
    shown,
    given.scratch,
  )
  return Made(made.images, given.targets, shown, {'cosine': made.cosine}, None)


KINDS: dict[str, Callable[[Lab, Material], Made]] = {
  'hidden_trigger': _hidden_trigger,
  'badnets': _badnets,
  'blended': _badnets,
  'label_consistent': _label_consistent,
  'sleeper_agent': _sleeper_agent,
}


def craft_poison(lab: Lab, data: Data) -> Dataset:
  """Stage: the poison, with the target's label."""
  config = lab.config.attack
  targets = data.scenario.poison_targets
  sources = data.scenario.poison_sources

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    rows, source_rows = poison_set.pair_up(
      seeds.numpy_rng(lab.config.seed, 'poison pairs'),
      len(targets),
      len(sources),
      config.passes,
    )
    given = Material(
      targets.images[rows],
      sources.images[source_rows],
      data.train.examples,
      data.scenario.target_label,
      scratch,
    )
    made = KINDS[config.kind](lab, given)
    ids = [
      f'poison{i // len(targets)}/{targets.ids[row]}'
      for i, row in enumerate(rows)
    ]
    write_examples(
      output,
      'poison',
      Examples(
        images=made.images,
        labels=np.zeros(len(rows), np.int32),
        ids=np.array(ids, np.str_),
        class_names=('target',),
        poisoned=np.ones(len(rows), bool),
      ),
    )
    _write_story(output, made)

  # Poison depends on its pictures alone: other tasks on them share it.
  depends = _fields(config) | {
    'weights': weights.fingerprint(config.model, config.pretrained),
    'seed': lab.config.seed,
    'targets': targets.fingerprint(),
    'sources': sources.fingerprint(),
  }
  inputs = []
  if config.kind == 'sleeper_agent':  # but for this kind
    fr = lab.config.fr
    depends['fr'] = fr.to_dict() | {'checkpoint_every': None}
    depends['fr_weights'] = weights.fingerprint(fr.model, fr.pretrained)
    inputs = data.train.inputs
  artifact = lab.store.stage('poison', 4, depends, inputs, compute)
  source = Source(artifact, 'poison')
  poison = read_examples(source)
  used = np.arange(max(1, round(config.share * len(poison))))
  poison = poison.take(used)
  label = np.int32(data.scenario.target_label)
  labeled = dataclasses.replace(
    poison,
    labels=np.full(len(poison), label),
    class_names=targets.class_names,
  )
  return Dataset(labeled, (source,))


def _fields(config: ConfigDict) -> dict[str, Any]:
  """What the poison depends on: only fields that its kind uses."""
  fields = crafting.depends(config)
  del fields['share']  # is cut afterwards
  for field, kind in (
    ('blend', 'blended'),
    ('retrainings', 'sleeper_agent'),
    ('adaptive', 'hidden_trigger'),
    ('pirm', 'hidden_trigger'),
  ):
    if config.kind != kind:
      fields.pop(field, None)
  return fields


def _write_story(output: pathlib.Path, made: Made) -> None:
  """What the report tells of the poison."""
  change = made.images.astype(np.int16) - made.originals
  summary = {'count': len(change), 'linf': int(np.abs(change).max())}
  files.write_json(output / 'summary.json', summary | made.summary)
  files.write_json(output / 'origin.json', made.origin)
  files.write_arrays(
    output / 'collisions.npz',
    {'originals': made.originals, 'patched_sources': made.shown},
  )


def patch_test_pictures(lab: Lab, data: Data) -> Dataset:
  """Stage: the attacker shows the trigger, at several random positions for
  each of the source's test pictures (paper 4.5)."""
  config = lab.config.evaluation
  source_test = data.scenario.source_test

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    rows = np.repeat(np.arange(len(source_test)), config.positions)
    images = source_test.images[rows]
    write_examples(
      output,
      'patched',
      Examples(
        images=show_trigger(lab, images, 'test positions'),
        labels=source_test.labels[rows],
        ids=np.array(
          [f'{source_test.ids[row]}@{n}' for n, row in enumerate(rows)]
        ),
        class_names=source_test.class_names,
        poisoned=source_test.poisoned[rows],
      ),
    )

  depends = {
    'positions': config.positions,
    'trigger_size': lab.config.attack.trigger_size,
    'seed': lab.config.seed,
  }
  if lab.config.attack.kind == 'blended':
    depends['blend'] = lab.config.attack.blend
  artifact = lab.store.stage('patched', 1, depends, data.test.inputs, compute)
  source = Source(artifact, 'patched')
  return Dataset(read_examples(source), (source,))
