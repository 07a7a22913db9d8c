"""What the scores of a whole folder say: of its classes, of the stated rate,
and how closely the classes that stand out must be looked at.

One threshold that holds for pictures of all kinds is higher than most kinds
need. In a class that stands out, pictures are compared with those of the other
classes of the same folder instead, which are of the same kind: a picture that
scores as high as only the stated share of them do is flagged, unless its score
is ordinary for clean pictures of other kinds.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from babam_jax.sanitizer import bulk, class_verdict
from babam_jax.sanitizer.folder_scores import FolderScores

# Above so many times the rate, the bulk of a folder says that it does not hold.
_TOLERATED = 3
# A fifth of the clean pictures of which the rates are known score higher: below
# this, no folder makes a score suspicious.
_ORDINARY = 0.8


class FolderVerdict(NamedTuple):
  """What the scores of a folder say.

  Attributes:
    highest_clean_rate: the share of clean pictures that are flagged, at most,
      of those on which it was measured; None if nothing is known of it, and so
      of classes.
    expected_rate: the same of pictures like most of the folder; None if nothing
      tells.
    is_shifted: whether that is too much; None if no rate is known.
    flags_are_spread: whether flags are in too many classes; None as before.
    p_values: for each class the probability that a clean one has so high
      scores.
    named: the classes that stand out.
    closer: pictures of these with a higher score are flagged; None if there are
      none, or their threshold stays.
  """

  highest_clean_rate: float | None
  expected_rate: float | None
  is_shifted: bool | None
  flags_are_spread: bool | None
  p_values: Float[np.ndarray, ' c']
  named: Bool[np.ndarray, ' c']
  closer: float | None

  @property
  def rate_holds(self) -> bool | None:
    """Whether the rate can be that of these pictures; None if none is known."""
    if self.is_shifted is None:
      return None
    return not (self.is_shifted or self.flags_are_spread)


NOTHING = FolderVerdict(
  None, None, None, None, np.zeros(0), np.zeros(0, bool), None
)


def judge(
  scores: FolderScores,
  threshold: float | None,
  fpr: float | None,
  clean: Float[np.ndarray, ' n'],
) -> FolderVerdict:
  """Judges a folder by its scores.

  Args:
    scores: those of its classes.
    threshold: pictures with a higher score are flagged; None without a PIRM.
    fpr: the rate from which it follows; None if it was given.
    clean: the scores of clean pictures of which rates are known, from low to
      high; there may be none.
  """
  if threshold is None or not len(clean):
    count = len(scores.names)
    return NOTHING._replace(
      p_values=np.ones(count), named=np.zeros(count, bool)
    )
  highest = class_verdict.highest_rate(threshold, clean)
  expected = bulk.expected_share(scores.values, threshold, clean)
  shifted = (expected or 0) > _TOLERATED * highest
  ordinary = float(np.quantile(clean, _ORDINARY))
  found = class_verdict.judge(
    scores, threshold, highest, ordinary, doubted=shifted
  )
  named = class_verdict.named(found.p_values)
  return FolderVerdict(
    highest,
    expected,
    shifted,
    not found.rate_holds,
    found.p_values,
    named,
    None if fpr is None else _closer(scores, named, fpr, ordinary, threshold),
  )


def _closer(
  scores: FolderScores,
  named: Bool[np.ndarray, ' c'],
  fpr: float,
  lowest: float,
  highest: float,
) -> float | None:
  """The threshold for the named classes, from the scores of all others."""
  if not named.any():
    return None
  others = scores.values[~named[scores.classes]]
  if fpr * (len(others) + 1) < 1:
    return None
  found = max(float(np.quantile(others, 1 - fpr)), lowest)
  return found if found < highest else None
