"""How an experiment recognizes faces: it builds, feeds and trains networks."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int32, PyTree, Shaped, UInt8

from babam_jax import settings
from babam_jax.data.examples import Examples
from babam_jax.models import heads, initial, networks
from babam_jax.models.pretrained import weights
from babam_jax.settings import setting
from babam_jax.training import optimizer, parallel, recognizer, train
from babam_jax.training.recognizer import Recognizer

Inputs = Shaped[np.ndarray, 'n *d']  # pictures, or a frozen trunk's features
_CHUNK = 128  # pictures at a time, where they are made on demand


@dataclasses.dataclass(frozen=True)
class RecognitionSettings:
  """The recognizer, and how it trains (paper 3.2, Table 3)."""

  model: str = setting(
    'alexnet',
    "The network; 'inception_v3' resizes pictures to 299 x 299, "
    "'mobile_face_net' to 112 x 112, 'dlib_resnet' to 150 x 150.",
    choices=tuple(networks.ARCHITECTURES),
  )
  width: int = setting(
    networks.WIDTH,
    "Units of fc6 and fc7 of AlexNet and VGG; torchvision's have 4096.",
    at_least=1,
    at_most=1 << 16,
  )
  pretrained: str = setting(
    'trunk',
    "The initial weights: 'full' (ImageNet), 'trunk' (the convolutions) "
    "or 'none'.",
    choices=weights.PRETRAINED,
  )
  frozen: str = setting(
    'trunk',
    "The layers not trained: 'trunk' (the convolutions), 'all_but_last' (the "
    "paper's \"frozen\") or 'none'.",
    choices=recognizer.FROZEN,
  )
  head: str = setting(
    heads.DENSE,
    "What tells people apart by the trunk's output: 'dense', the network's own "
    "layers; 'cosine', a template of each person, which trains; or "
    "'nearest_mean', whose templates are the mean embedding of each person. "
    'The last two also verify one person (1:1).',
    choices=heads.HEADS,
  )
  logit_adjustment: float = setting(
    1.0,
    'How far training corrects for unequal class sizes: 0 not at all, 1 fully.',
  )
  optimizer: str = setting(
    'adam_cosine', 'The optimizer.', choices=optimizer.OPTIMIZERS
  )
  learning_rate: float = setting(3e-4, 'The initial rate.', above=0)
  epochs: int = setting(15, 'Passes over the training set.', at_least=1)
  batch_size: int = setting(
    128, 'Pictures per step, over all devices.', at_least=1
  )
  checkpoint_every: int = setting(
    5, 'Epochs between two checkpoints.', at_least=1
  )

  def check(self, path: str, size: int) -> None:
    """Checks rules between settings.

    Args:
      path: the path of these settings, below `config`.
      size: the size of the pictures, in pixels a side.

    Raises:
      UserError: the network cannot have this width, or take such pictures.
    """
    architecture = networks.ARCHITECTURES[self.model]
    if self.head == heads.NEAREST_MEAN and self.frozen != 'trunk':
      expected = "'trunk', as nothing trains with the head 'nearest_mean'"
      settings.refuse(f'{path}.frozen', self.frozen, expected)
    if not architecture.fixed_size:
      networks.check_size(self.model, size, f'{path}.model')
    has_width = bool(architecture.head_taps)
    if self.pretrained == 'full' and has_width and self.width != networks.WIDTH:
      expected = f"{networks.WIDTH}, as config.{path}.pretrained is 'full'"
      settings.refuse(f'{path}.width', self.width, expected)


class Recognition:
  """Builds, feeds and trains recognizers.

  Args:
    chosen: the network, and how it trains.
    seed: the seed of the experiment.
    batch_size: pictures per step of evaluation, over all devices.
    stored: returns the stored inputs of pictures, or None if there are none.
  """

  def __init__(
    self,
    chosen: RecognitionSettings,
    seed: int,
    batch_size: int,
    stored: Callable[[Examples], Inputs | None] = lambda pictures: None,
  ):
    self.settings = chosen
    self.seed = seed
    self.batch_size = batch_size
    self._stored = stored

  def recognizer(self, num_classes: int) -> Recognizer:
    """The recognizer that the settings describe, untrained."""
    chosen = self.settings
    return Recognizer(
      chosen.model,
      num_classes,
      chosen.width,
      chosen.pretrained,
      chosen.frozen,
      chosen.logit_adjustment,
      chosen.head,
    )

  @property
  def on_features(self) -> bool:
    """Whether recognizers take a frozen trunk's features, not pictures."""
    return self.settings.frozen != 'none'

  def inputs(self, pictures: Examples) -> Inputs:
    """The recognizer's inputs for pictures: their pixels, or trunk features."""
    if not self.on_features:
      return pictures.images
    known = self._stored(pictures)
    return self.inputs_of(pictures.images) if known is None else known

  def inputs_of(
    self,
    images: Shaped[np.ndarray, 'n h w 3'],
    on_batch: Callable[[int], object] = lambda rows: None,
  ) -> Inputs:
    """The recognizer's inputs for images, in gray levels or in [0, 1]."""
    if not self.on_features:
      return images
    chosen = self.settings
    trunk, _ = initial.trunk(chosen.model, chosen.pretrained, self.seed)
    return self._features(trunk, images, on_batch)

  def _features(
    self,
    trunk: PyTree,
    images: Shaped[np.ndarray, 'n h w 3'],
    on_batch: Callable[[int], object] = lambda rows: None,
  ) -> Float[np.ndarray, 'n d']:
    """What a trunk, of these variables, says of images."""
    kernel = _mapped_trunk(self.settings.model)
    return parallel.map_batches(
      kernel, trunk, (images,), self.batch_size, on_batch
    )

  def features_moved(
    self, variables: PyTree, images: UInt8[np.ndarray, 'n h w 3']
  ) -> float:
    """How far training has moved the trunk's features of pictures: the mean of
    |after - before| / |before|.

    Args:
      variables: those of a trained recognizer, all of which has trained.
      images: the pictures.
    """
    chosen = self.settings
    trunk, _ = initial.trunk(chosen.model, chosen.pretrained, self.seed)
    before, after = (
      self._features(each, images) for each in (trunk, variables)
    )
    length = np.linalg.norm(before, axis=1)
    moved = np.linalg.norm(after - before, axis=1)
    return float(np.mean(moved / np.maximum(length, 1e-6)))

  def inputs_in_chunks(
    self, count: int, make: Callable[[slice], np.ndarray]
  ) -> Inputs:
    """The inputs of images that are made a few at a time.

    Args:
      count: the number of images.
      make: makes the images of a slice of rows.
    """
    return np.concatenate(
      [
        self.inputs_of(make(slice(start, min(start + _CHUNK, count))))
        for start in range(0, count, _CHUNK)
      ]
    )

  def predict(
    self,
    function: Callable[[PyTree, Array], Array],
    variables: PyTree,
    inputs: Inputs,
  ) -> Float[np.ndarray, 'n d']:
    """`function(variables, inputs)`, batch by batch over all devices."""
    return train.predict(function, variables, inputs, self.batch_size)

  def fit(
    self,
    network: train.Network,
    inputs: Inputs,
    labels: Int32[np.ndarray, ' n'],
    *,
    seed: int,
    scratch: pathlib.Path,
    title: str,
    row_weights: Float[np.ndarray, ' n'] | None = None,
    on_epoch: Callable[[train.EpochRecord], None] = lambda record: None,
    **changes: Any,
  ) -> tuple[PyTree, list[train.EpochRecord]]:
    """Trains as the settings say.

    Args:
      network: the network to train.
      inputs: the training set, as `network.apply` takes it.
      labels: class numbers.
      seed: the seed of order, augmentation and dropout.
      scratch: checkpoints go below it.
      title: for the progress bar.
      row_weights: how much each row counts in the loss; None: all alike.
      on_epoch: receives each epoch's metrics.
      **changes: fields of `train.TrainSpec` that differ from the settings.

    Returns:
      What `Recognizer.logits` needs, and the metrics per epoch.
    """
    trained = train.fit(
      network,
      inputs,
      labels,
      dataclasses.replace(train.spec_of(self.settings), **changes),
      seed=seed,
      folder=scratch / 'checkpoints',
      title=title,
      row_weights=row_weights,
      on_epoch=on_epoch,
    )
    variables = recognizer.trained_variables(
      network, trained.params, trained.stats
    )
    return variables, trained.history


@functools.cache  # compiled once for many calls
def _mapped_trunk(model: str) -> Callable[..., Any]:
  features = functools.partial(recognizer.trunk_features, model)
  return parallel.mapped(features, 1, 1)
