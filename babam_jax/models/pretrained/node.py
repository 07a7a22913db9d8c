"""A layer of a network, as a file of weights has it."""

from typing import NamedTuple

import numpy as np


class Connection(NamedTuple):
  """How a layer is part of a graph.

  Attributes:
    takes: the numbers of the nodes whose outputs it takes, added together;
      none: the pictures.
    stride: in both directions.
    padding: with zeros, at every border.
    groups: of channels that it keeps apart.
  """

  takes: tuple[int, ...]
  stride: int = 1
  padding: int = 0
  groups: int = 1


class Node(NamedTuple):
  """A layer of a network.

  Attributes:
    name: its name in the file, for people to read.
    kind: ONNX's name of its operator, such as 'Conv'.
    arrays: its weights, in the order in which the operator takes them.
    connection: its place in the graph; None: the file does not tell.
  """

  name: str
  kind: str
  arrays: tuple[np.ndarray, ...]
  connection: Connection | None = None
