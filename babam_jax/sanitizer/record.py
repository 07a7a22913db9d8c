"""What is said of one file of an untrusted folder."""

import dataclasses

NOT_JUDGED = 'not judged'
PERTURBATION = 'perturbation'  # what a PIRM flags
VISIBLE = 'visible'  # the other detector


@dataclasses.dataclass(frozen=True)
class Record:
  """What was found in one file, and what was done with it.

  Attributes:
    path: below the input folder.
    class_name: the folder it belongs to.
    judged: whether it could be judged.
    score: the probability of poison; None if it was not asked for.
    flagged: whether the score is above the threshold, or something recurs.
    flagged_closer: whether it is flagged by a closer look at its class alone,
      with a lower threshold.
    kind: of what it is flagged for: 'perturbation', or what recurs, or both.
    recurs: the number of what recurs in its class; None without.
    likeness: how much of it is there, from 0 to 1; None without.
    place: where: left, top, right and bottom, as shares; None without.
    sensitivity: Algorithm 1's, in [0, 1]; None without noise.
    scale: the scale of its noise, in gray levels; None without noise.
    action: 'kept', 'perturbed', 'dropped', 'reported', 'left out' (no picture,
      nor meant to be one) or 'not judged'.
    output: the path of its output file below the output folder, or ''.
    note: why it could not be judged, or other remarks.
  """

  path: str
  class_name: str
  judged: bool = False
  score: float | None = None
  flagged: bool = False
  flagged_closer: bool = False
  kind: str = ''
  recurs: int | None = None
  likeness: float | None = None
  place: list[float] | None = None
  sensitivity: float | None = None
  scale: float | None = None
  action: str = NOT_JUDGED
  output: str = ''
  note: str = ''
