"""The stages that make a PIRM: train on poisoned natural images, measure.

The PIRM never sees the faces that it will judge.
"""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from babam_jax import files
from babam_jax.data.examples import Examples
from babam_jax.defense import pirm
from babam_jax.evaluation import metrics
from babam_jax.experiment import pirm_data
from babam_jax.experiment.artifacts import Artifact
from babam_jax.experiment.lab import Lab
from babam_jax.experiment.stages import train_spec
from babam_jax.models import weights
from babam_jax.progress import progress_bar
from babam_jax.training import train
from babam_jax.training.metric_log import MetricLog


def train_pirm(lab: Lab) -> tuple[pirm.Pirm, Artifact]:
  """Stage: train the PIRM and measure it on the pictures held out."""
  config, seed = lab.config.pirm, lab.config.seed
  data = pirm_data.make(lab)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    examples = pirm_data.read(data, 'train')
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
        units=pirm_data.pairs(examples.poisoned) if config.paired else None,
        on_epoch=log.add,
      )
    variables = pirm.variables_of(network, trained)
    model = pirm.Pirm(config.variant, variables, {})
    meta = {
      'holdout': _measure(model, pirm_data.read(data, 'holdout'), config),
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
  if config.paired:
    depends['paired'] = True
  if config.variant == 'vgg16':
    depends['weights'] = weights.fingerprint('vgg16', 'trunk')
  artifact = lab.store.stage('pirm', 4, depends, [data], compute)
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
  content = pirm.fingerprint(path)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    pirm.save(model, output / 'pirm.npz')

  artifact = lab.store.stage('pirm', 1, {'sha256': content}, [], compute)
  return model, artifact
