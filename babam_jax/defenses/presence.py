"""Whether something is in some pictures of a class and not in the others, or in
all of them more or less.

A trigger is in a picture or is not. A person's features, a background or a
uniform are more or less alike. So of the likenesses with a trigger few lie in
the middle.
"""

import numpy as np
from jaxtyping import Float

FEWEST = 5  # pictures that have it
LEAST_SHARE = 0.02  # of the class
LARGEST_SHARE = 0.6  # of the class: beyond, it is the nature of the class
_BETWEEN = 0.12  # of those that have it, at most so many lie around the limit


def limit(
  inside: Float[np.ndarray, ' n'],
  outside: Float[np.ndarray, ' m'],
  limits: Float[np.ndarray, ' k'],
  margin: float,
) -> float | None:
  """The likeness above which a picture has it; None if there is no such limit.

  Args:
    inside: the likeness of each picture of the class.
    outside: that of pictures of other classes, all of which are below.
    limits: what is tried; of several that divide, the one with the fewest
      pictures around it is taken, then the lowest.
    margin: how far from the limit few pictures may lie.
  """
  least = max(FEWEST, LEAST_SHARE * len(inside))
  best, fewest = None, np.inf
  for tried in limits:
    above = (inside > tried).sum()
    between = (np.abs(inside - tried) <= margin).sum()
    divides = (
      least <= above <= LARGEST_SHARE * len(inside)
      and between <= _BETWEEN * above
      and outside.max(initial=0) < tried
    )
    if divides and between < fewest:
      best, fewest = float(tried), between
  return best
