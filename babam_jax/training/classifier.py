"""Trained models that say who is in a picture."""

import pathlib
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from babam_jax import files
from babam_jax.data.examples import Examples
from babam_jax.models import heads
from babam_jax.training import recognizer
from babam_jax.training.recognition import Recognition

Logits = Float[np.ndarray, 'n c']
Mask = Float[np.ndarray, ' k']
_Array = TypeVar('_Array', Array, np.ndarray)
_FILE = 'variables'
_MASK = 'mask'


@runtime_checkable
class Classifier(Protocol):
  """A trained model: one network, an ensemble, or a vote.

  Attributes:
    passes: how often a network is evaluated for each picture.
  """

  passes: int

  def predict(self, pictures: Examples) -> Logits:
    """Logits, or other scores: the class with the largest is the answer."""
    ...

  def findings(
    self, predicted: Logits, labels: Shaped[np.ndarray, ' n']
  ) -> dict[str, Any]:
    """Further figures for the report, from its predictions and the labels."""
    ...

  def save(self, folder: pathlib.Path) -> None:
    """Writes the model into a folder."""
    ...


class NetworkClassifier:
  """A recognizer after training: one pass of one network.

  Args:
    recognition: how the network was built and trained.
    variables: those that `Recognizer.logits` needs.
    num_classes: the number of people that it tells apart.
    mask: 0 for each channel of the trunk's output that is pruned, else 1; None:
      none is pruned. Only with a frozen trunk.
  """

  passes = 1

  def __init__(
    self,
    recognition: Recognition,
    variables: PyTree,
    num_classes: int,
    mask: Mask | None = None,
  ):
    self.recognition = recognition
    self.recognizer = recognition.recognizer(num_classes)
    self.variables = variables
    self.num_classes = num_classes
    self.mask = mask

  def predict(self, pictures: Examples) -> Logits:
    """The logits of pictures."""
    return self.predict_inputs(self.inputs(pictures))

  def predict_inputs(self, inputs: np.ndarray) -> Logits:
    """The logits of inputs that `Recognition.inputs` made."""
    return self.recognition.predict(
      self.recognizer.logits, self.variables, inputs
    )

  def activations(self, pictures: Examples) -> Float[np.ndarray, 'n d']:
    """The activations of the last hidden layer."""
    return self.recognition.predict(
      self.recognizer.activations, self.variables, self.inputs(pictures)
    )

  def inputs(self, pictures: Examples) -> np.ndarray:
    """What the network takes of pictures."""
    inputs = self.recognition.inputs(pictures)
    return inputs if self.mask is None else masked(inputs, self.mask)

  @property
  def whole(self) -> PyTree:
    """All variables that `logits` needs, a frozen trunk's included."""
    variables = self.recognizer.whole(self.variables, self.recognition.seed)
    return variables if self.mask is None else variables | {'mask': self.mask}

  def logits(
    self, whole: PyTree, pixels: Float[Array, 'n h w 3']
  ) -> Float[Array, 'n c']:
    """Logits of pixels in [0, 1] with the variables `whole`; differentiable."""
    if self.mask is None:
      return self.recognizer.logits_of_pictures(whole, pixels)
    model = self.recognizer.model
    features = recognizer.trunk_features(model, whole, pixels)
    head = {
      name: {'head': tree['head']}
      for name, tree in whole.items()
      if name != 'mask' and 'head' in tree
    }
    return self.recognizer.logits(head, masked(features, whole['mask']))

  @property
  def compares(self) -> bool:
    """Whether its logits are likenesses with templates, for verification."""
    return self.recognizer.head != heads.DENSE

  def layers(
    self, whole: PyTree, pixels: Float[Array, 'n h w 3']
  ) -> list[Shaped[Array, ' n *d']]:
    """What comes out of each hidden layer with weights, before BatchNorm and
    activation, from the first to the last; without pruning."""
    return self.recognizer.layers_of_pictures(whole, pixels)

  def findings(
    self, predicted: Logits, labels: Shaped[np.ndarray, ' n']
  ) -> dict[str, Any]:
    """None: a single network has no further figures."""
    del predicted, labels
    return {}

  def save(self, folder: pathlib.Path) -> None:
    """Writes `variables.npz`, and `mask.npz` if channels are pruned."""
    flat = recognizer.flatten(self.variables)
    files.write_arrays(folder / f'{_FILE}.npz', flat)
    if self.mask is not None:
      files.write_arrays(folder / f'{_MASK}.npz', {_MASK: self.mask})


def load_network(
  recognition: Recognition, folder: pathlib.Path, num_classes: int
) -> NetworkClassifier:
  """Reads what `NetworkClassifier.save` wrote."""
  flat = files.read_arrays(folder / f'{_FILE}.npz')
  path = folder / f'{_MASK}.npz'
  mask = files.read_arrays(path)[_MASK] if path.exists() else None
  variables = recognizer.unflatten(flat)
  return NetworkClassifier(recognition, variables, num_classes, mask)


def masked(features: _Array, mask: _Array) -> _Array:
  """Features [n, d] with zeros in the pruned channels.

  Args:
    features: maps of the last convolution, flattened, the channel last.
    mask: 0 for a channel that is pruned, else 1.
  """
  maps = features.reshape(len(features), -1, len(mask)) * mask
  return maps.reshape(features.shape)
