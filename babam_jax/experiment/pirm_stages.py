"""The stages that make a PIRM: poison natural images, train on them.

The PIRM never sees the faces that it will judge.
"""

import hashlib
import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from babam_jax import errors, files, seeds
from babam_jax.attack import poison_set
from babam_jax.data import image_folder
from babam_jax.data.examples import Examples
from babam_jax.defense import pirm
from babam_jax.evaluation import metrics
from babam_jax.experiment.artifacts import Artifact
from babam_jax.experiment.lab import Lab, Source, read_examples, write_examples
from babam_jax.experiment.stages import (
  build_surrogate,
  crafting_spec,
  train_spec,
)
from babam_jax.models import weights
from babam_jax.progress import progress_bar
from babam_jax.training import train
from babam_jax.training.metric_log import MetricLog

_CLASSES = ('clean', 'poison')
PARTS = ('train', 'holdout')


def _some_grey(
  images: UInt8[np.ndarray, 'n h w 3'], fraction: float, seed: int
) -> UInt8[np.ndarray, 'n h w 3']:
  """Makes a share of the pictures grey: many face data sets are."""
  grey = seeds.numpy_rng(seed, 'grey').random(len(images)) < fraction
  luma = images[grey] @ np.array([0.299, 0.587, 0.114])
  images = images.copy()
  images[grey] = np.rint(luma)[..., None].astype(np.uint8)
  return images


def natural_pictures(config: ConfigDict, seed: int) -> list:
  """A random choice of pictures: poisoned ones, sources, clean ones."""
  root = pathlib.Path(config.root)
  ids = image_folder.find_images(root, 'config.pirm.root')
  needed = 2 * config.num_poison + config.num_clean
  if len(ids) < needed:
    raise errors.UserError(
      f'config.pirm.root: {len(ids)} images below {config.root!r}; expected '
      f'{needed}: two for each of config.pirm.num_poison and one for each of '
      'config.pirm.num_clean. Lower one of them.'
    )
  order = seeds.numpy_rng(seed, 'natural pictures').permutation(len(ids))
  chosen = [ids[i] for i in order[:needed]]
  return [image_folder.in_file(root / i, i, 'clean') for i in chosen]


def make_pirm_data(lab: Lab) -> Artifact:
  """Stage: natural pictures, some of them poisoned, in two parts.

  Clean and poisoned pictures go through the same decoding and resizing, and
  the original of a poison is in the same part as the poison itself.
  """
  config, seed = lab.config.pirm, lab.config.seed
  pictures = natural_pictures(config, seed)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    natural = image_folder.load(
      pictures, _CLASSES, lab.config.data.size, skip_unreadable=False
    )
    images = _some_grey(natural.images, config.grey_fraction, seed)
    count = config.num_poison
    targets, sources, rest = np.split(images, [count, 2 * count])
    poison, _ = poison_set.craft_set(
      build_surrogate(config.poison, seed),
      crafting_spec(config.poison),
      targets,
      sources,
      trigger_size=config.poison.trigger_size,
      # The defender does not know the attacker's trigger.
      seed=seeds.child_seed(seed, 'PIRM poison'),
      scratch=scratch,
    )
    target_ids, _, rest_ids = np.split(natural.ids, [count, 2 * count])
    for part, poison_rows, rest_rows in _parts(lab.config):
      examples = Examples(
        images=np.concatenate(
          [targets[poison_rows], rest[rest_rows], poison.images[poison_rows]]
        ),
        labels=np.repeat(
          np.array([0, 1], np.int32),
          [len(poison_rows) + len(rest_rows), len(poison_rows)],
        ),
        ids=np.concatenate(
          [
            target_ids[poison_rows],
            rest_ids[rest_rows],
            np.char.add('poison/', target_ids[poison_rows]),
          ]
        ),
        class_names=_CLASSES,
        poisoned=np.repeat(
          [False, True],
          [len(poison_rows) + len(rest_rows), len(poison_rows)],
        ),
      )
      write_examples(output, part, examples)

  depends = {
    'config': _data_config(config),
    'weights': weights.fingerprint(
      config.poison.model, config.poison.pretrained, 'config.pirm.poison'
    ),
    'size': lab.config.data.size,
    'seed': seed,
    'fingerprint': image_folder.fingerprint(pictures),
  }
  return lab.store.stage('pirm_data', 4, depends, [], compute)


def _data_config(config: ConfigDict) -> dict[str, Any]:
  names = ('num_poison', 'num_clean', 'grey_fraction', 'holdout_fraction')
  chosen = {name: config[name] for name in names}
  return chosen | {'poison': config.poison.to_dict()}


def _parts(config: ConfigDict) -> list[tuple[str, np.ndarray, np.ndarray]]:
  """(part, its rows of the poisoned, its rows of the clean) for each part."""
  counts = (config.pirm.num_poison, config.pirm.num_clean)
  held = [round(n * config.pirm.holdout_fraction) for n in counts]
  rest = [np.arange(h, n) for h, n in zip(held, counts, strict=True)]
  return [('holdout', *map(np.arange, held)), ('train', *rest)]


def train_pirm(lab: Lab) -> tuple[pirm.Pirm, Artifact]:
  """Stage: train the PIRM and measure it on the pictures held out."""
  config, seed = lab.config.pirm, lab.config.seed
  data = make_pirm_data(lab)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    examples = read_examples(Source(data, 'train'))
    network = (
      pirm.compact_network(seed)
      if config.variant == 'compact'
      else pirm.vgg16_network(seed, config.trainable_convs)
    )
    with MetricLog(lab.workdir / 'training', 'pirm') as log:
      trained = train.fit(
        network,
        examples.images,
        examples.labels,
        train_spec(config),
        seed=seed,
        folder=scratch / 'checkpoints',
        title='training the PIRM',
        on_epoch=log.add,
      )
    variables = pirm.variables_of(network, trained)
    model = pirm.Pirm(config.variant, variables, {})
    meta = {
      'holdout': _measure(
        model, read_examples(Source(data, 'holdout')), config
      ),
      'training_pictures': len(examples),
      'data_fingerprint': data.key,
      'seed': seed,
      'config': config.to_dict(),
    }
    pirm.save(model._replace(meta=meta), output / 'pirm.npz')
    files.write_json(output / 'history.json', trained.history)

  names = ('variant', 'trainable_convs', 'threshold')
  depends = (
    {name: config[name] for name in names}
    | vars(train_spec(config))
    | {'checkpoint_every': None, 'seed': seed}  # the former changes nothing
  )
  if config.variant == 'vgg16':
    depends['weights'] = weights.fingerprint('vgg16', 'trunk')
  artifact = lab.store.stage('pirm', 3, depends, [data], compute)
  return pirm.load(artifact.folder / 'pirm.npz'), artifact


def _measure(
  model: pirm.Pirm, holdout: Examples, config: ConfigDict
) -> dict[str, Any]:
  with progress_bar(len(holdout), 'PIRM scores (held out)', 'img') as bar:
    scores = pirm.score(
      model, holdout.images, config.score_batch_size, bar.update
    )
  return metrics.detection_metrics(scores, holdout.poisoned, config.threshold)


def obtain_pirm(lab: Lab) -> tuple[pirm.Pirm, Artifact]:
  """The PIRM of the experiment: shipped with the project, from a file, or
  trained here (paper 3.4)."""
  where = lab.config.pirm.checkpoint
  if where == 'train':
    return train_pirm(lab)
  path = pirm.SHIPPED if where == 'shipped' else pathlib.Path(where)
  model = pirm.load(path)
  content = hashlib.sha256(path.read_bytes()).hexdigest()

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    pirm.save(model, output / 'pirm.npz')

  artifact = lab.store.stage('pirm', 1, {'sha256': content}, [], compute)
  return model, artifact
