"""The stages that make a PIRM: train on poisoned natural images, calibrate.

The PIRM never sees the faces that it will judge.
"""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from babam_jax import files, seeds, settings
from babam_jax.config.schema import Experiment
from babam_jax.data.examples import Examples
from babam_jax.defenses import any_size, calibration, grain, pirm
from babam_jax.defenses.calibration import Calibration
from babam_jax.evaluation import metrics
from babam_jax.models.pretrained import weights
from babam_jax.pirm_training import natural_pictures, training_data
from babam_jax.progress import progress_bar
from babam_jax.store.artifacts import Artifact
from babam_jax.store.lab import Lab
from babam_jax.store.stage import Stage
from babam_jax.training import train
from babam_jax.training.metric_log import MetricLog

_FILE = 'pirm.npz'
_SCORED = 64  # pictures at a time


TRAINING = Stage(
  'pirm',
  6,
  (
    'pirm.variant',
    'pirm.filters',
    'pirm.trainable_convs',
    'pirm.start_from',
    'pirm.paired',
    'pirm.optimizer',
    'pirm.learning_rate',
    'pirm.epochs',
    'pirm.batch_size',
    '-pirm',  # is stored with the PIRM, for its card
    'seed',
  ),
  after=lambda experiment: (training_data.PICTURES,),
)
CALIBRATION = Stage(
  'pirm_calibration',
  6,
  ('pirm.measured_at', '-pirm', 'data.size', 'seed'),
  after=lambda experiment: (TRAINING,),
)
OBTAINED = Stage('pirm', 6, ())


def train_pirm(lab: Lab) -> tuple[pirm.Pirm, Artifact]:
  """Makes the data, trains the PIRM, calibrates it."""
  data = training_data.make(lab)
  artifact = _calibrate(lab, data, _train(lab, data))
  return pirm.load(artifact.folder / _FILE), artifact


def _train(lab: Lab, data: Artifact) -> Artifact:
  """Stage: train on one part of the pictures."""

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    config, seed = experiment.pirm, experiment.seed
    examples = training_data.read(data, 'train')
    if config.start_from:
      known = pirm.load(pirm.path_of(config.start_from))
      network = pirm.begun_from(known, seed)
    elif config.variant == 'vgg16':
      network = pirm.vgg16_network(seed, config.trainable_convs)
    else:
      network = pirm.small_network(config.variant, seed, config.filters)
    with MetricLog(lab.workdir / 'training', 'pirm') as log:
      trained = train.fit(
        network,
        examples.images,
        examples.labels,
        train.spec_of(config),
        seed=seed,
        folder=scratch / 'checkpoints',
        title='training the PIRM',
        units=training_data.pairs(examples.poisoned) if config.paired else None,
        on_epoch=log.add,
      )
    variables = pirm.variables_of(network, trained)
    meta = {
      'training_pictures': len(examples),
      'data_fingerprint': data.key,
      'seed': seed,
      'config': settings.as_dict(config),
    }
    pirm.save(pirm.Pirm(config.variant, variables, meta), output / _FILE)
    files.write_json(output / 'history.json', trained.history)

  facts = {}
  if lab.experiment.pirm.variant == 'vgg16':
    facts['weights'] = weights.fingerprint('vgg16', 'trunk')
  if start := lab.experiment.pirm.start_from:
    facts['start'] = pirm.fingerprint(pirm.path_of(start))
  return lab.make(TRAINING, compute, inputs=[data], facts=facts)


def _calibrate(lab: Lab, data: Artifact, trained: Artifact) -> Artifact:
  """Stage: make the score a probability, and measure it.

  One half of the pictures held out is for calibration, the other for measuring;
  a poison is in the same half as its original. The scores of all clean ones are
  stored, for thresholds.
  """

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    config = experiment.pirm
    model = pirm.load(trained.folder / _FILE)
    holdout = training_data.read(data, 'holdout')
    views, poisoned = _evidence(model, holdout), holdout.poisoned
    clean = _typical(experiment, data, holdout)
    strata = _strata(views, clean) if config.native else None
    evidence = any_size.normalized(strata, views)
    fitting = training_data.half(holdout, experiment.seed)
    slope, offset = calibration.fit(evidence[fitting], poisoned[fitting])
    fitted = Calibration(slope, offset, strata=strata)
    scores = calibration.probability(fitted, evidence)
    bins = calibration.reliability(scores[~fitting], poisoned[~fitting])
    found = metrics.detection_metrics(
      scores[~fitting], poisoned[~fitting], config.measured_at
    )
    found['calibration_error'] = calibration.calibration_error(bins)
    found['reliability'] = [b._asdict() for b in bins]
    found['kinds'] = _by_kind(
      training_data.kinds(config, poisoned), scores[poisoned], scores[clean]
    )
    pirm.save(
      model._replace(
        meta=model.meta | {'holdout': found},
        calibration=fitted._replace(clean=scores[clean]),
      ),
      output / _FILE,
    )
    files.write_json(output / 'history.json', trained.json('history'))

  return lab.make(CALIBRATION, compute, inputs=[trained])


def _typical(
  experiment: Experiment, data: Artifact, holdout: Examples
) -> Bool[np.ndarray, ' n']:
  """Clean pictures like those of users, of which rates are measured.

  A PIRM for native resolution also learns from enlarged thumbnails, which
  nobody enrolls, and from many pictures with the look of another origin, of
  which users have few.
  """
  config, seed, clean = experiment.pirm, experiment.seed, ~holdout.poisoned
  if not config.native:
    return clean
  clean = clean & ~training_data.enlarged(data, 'holdout')
  known = natural_pictures.choose(config, experiment.data.size, seed).textured
  names = [training_data.original(str(name)) for name in holdout.ids]
  textured = np.array([known[name] for name in names])
  share = config.typical_textured
  wanted = share / (1 - share) * (clean & ~textured).sum()
  chance = wanted / max(1, (clean & textured).sum())
  rng = seeds.numpy_rng(seed, 'typical pictures')
  kept = {name for name in dict.fromkeys(names) if rng.random() < chance}
  return clean & (~textured | np.array([name in kept for name in names]))


def _strata(
  views: list[grain.Evidence], clean: Bool[np.ndarray, ' n']
) -> grain.Strata | None:
  """The strata of clean pictures, each of which has one view."""
  columns = zip(*(views[row] for row in np.flatnonzero(clean)), strict=True)
  return grain.fit(grain.Evidence(*map(np.concatenate, columns)))


def _by_kind(
  kinds: list[str],
  poison: Float[np.ndarray, ' p'],
  clean: Float[np.ndarray, ' c'],
) -> list[dict[str, Any]]:
  """The TPR for each kind of poison held out, at a false-positive rate of 1 %
  on the clean pictures held out."""
  flagged = poison > np.quantile(clean, 0.99)
  of = np.array(kinds)
  return [
    {
      'kind': kind,
      'tpr': float(flagged[of == kind].mean()),
      'pictures': int((of == kind).sum()),
    }
    for kind in dict.fromkeys(kinds)
  ]


def _evidence(model: pirm.Pirm, examples: Examples) -> list[grain.Evidence]:
  """The evidence for poison of pictures, as in `launch.sanitize`."""
  found: list[grain.Evidence] = []
  with progress_bar(len(examples), 'PIRM scores (held out)', 'img') as bar:
    for start in range(0, len(examples), _SCORED):
      images = examples.images[start : start + _SCORED]
      views = [any_size.views(model.variant, image) for image in images]
      found += any_size.evidence(model, views)
      bar.update(len(images))
  return found


def obtain(lab: Lab, where: str) -> tuple[pirm.Pirm, Artifact]:
  """A PIRM that is shipped with the project, from a file, or trained here
  (paper 3.4).

  Args:
    lab: the running experiment.
    where: the name of a shipped one, a file, or `pirm.TRAIN`.
  """
  if where == pirm.TRAIN:
    return train_pirm(lab)
  path = pirm.path_of(where)
  model = pirm.load(path)

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    pirm.save(model, output / _FILE)

  facts = {'sha256': pirm.fingerprint(path)}
  name = f'{OBTAINED.name}/{path.stem.removeprefix("pirm_")}'
  return model, lab.make(OBTAINED, compute, facts=facts, name=name)
