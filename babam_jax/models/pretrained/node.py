"""A layer of a network, as a file of weights has it."""

from typing import NamedTuple

import numpy as np

from babam_jax.models.architecture import Connection


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
