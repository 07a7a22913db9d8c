"""A layer with weights, as a file of weights has it."""

from typing import NamedTuple

import numpy as np


class Node(NamedTuple):
  """A layer of a network that has weights.

  Attributes:
    name: its name in the file, for people to read.
    kind: ONNX's name of its operator, such as 'Conv'.
    arrays: its weights, in the order in which the operator takes them.
  """

  name: str
  kind: str
  arrays: tuple[np.ndarray, ...]
