"""The properties in which networks differ."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn


class Connection(NamedTuple):
  """How a layer is part of a graph.

  Attributes:
    takes: the numbers of the layers whose outputs it takes, added together;
      none: the pictures.
    stride: in both directions.
    padding: with zeros, at every border.
    groups: of channels that it keeps apart.
  """

  takes: tuple[int, ...]
  stride: int = 1
  padding: int = 0
  groups: int = 1


class FileLayer(NamedTuple):
  """A layer of a trunk, as files of weights have it that do not name it.

  Attributes:
    name: our name of it.
    connection: its place in the graph; None: such files do not tell.
  """

  name: str
  connection: Connection | None = None


@dataclasses.dataclass(frozen=True)
class Architecture:
  """The properties in which networks differ.

  Attributes:
    trunk: makes the module that maps pictures to a dict of taps, the last of
      which is the head's input.
    head: `(num_classes, width)` to the module that maps the trunk's output to
      'logits' (and 'aux_logits').
    taps: where poison can collide, from front to back.
    last: the head's layers that depend on the number of classes.
    smallest: the smallest pictures that it takes, in pixels a side.
    trained_on: the size of the pictures that its weights saw.
    flattened: [channels, rows, columns] of the map that the head flattens;
      PyTorch flattens it in this order, we in (rows, columns, channels).
    fixed_size: pictures are resized to `trained_on` for recognition.
    channels: the last convolution's channels, the output's last axis.
    head_taps: the taps in the dense layers, whose width can be chosen.
    torch_name: what torchvision calls our layer; its own name if torchvision
      has no such network.
    file_format: that of its files of weights: 'torch', 'onnx' or 'dlib'.
    file_layers: the trunk's layers in the order of such a file, unless it names
      them.
    official: torchvision's file of weights, whose name ends in the beginning
      of its SHA-256; '' if there is none.
  """

  trunk: Callable[[], nn.Module]
  head: Callable[[int, int], nn.Module]
  taps: tuple[str, ...]
  last: tuple[str, ...]
  smallest: int
  channels: int
  trained_on: int = 224
  flattened: tuple[int, int, int] | None = None
  fixed_size: bool = False
  head_taps: tuple[str, ...] = ()
  torch_name: Callable[[str], str] = str
  file_format: str = 'torch'
  file_layers: tuple[FileLayer, ...] = ()
  official: str = ''
