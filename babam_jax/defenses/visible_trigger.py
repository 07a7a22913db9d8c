"""Flags triggers that one can see, by the one thing that they cannot do
without: they recur. Nothing is trained.

A small pattern at any place, something at the same place, a box of one color, a
picture over the whole picture (`babam_jax/recurrence`): in a part of a class
and in no other. (Chou et al. 2020,
"SentiNet", look for the region of one picture that decides a trained model;
here there is no model.)
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

from babam_jax.data.examples import Examples
from babam_jax.defenses.base import Context, Detector, Verdict
from babam_jax.progress import progress_bar
from babam_jax.recurrence import judge
from babam_jax.recurrence.look import look
from babam_jax.settings import setting


def detect(
  pictures: Examples,
  *,
  outsiders: int,
  on_pictures: Callable[[int], object] = lambda count: None,
) -> Verdict:
  """Judges training pictures.

  Args:
    pictures: the pictures with their labels.
    outsiders: pictures of other classes that each class is compared with.
    on_pictures: called with the number of pictures done, twice for each.

  Returns:
    Scores from 0 to 1: the likeness with what recurs; 0 where nothing does. And
    where it is.
  """
  looks = []
  for image in pictures.images:
    looks.append(look(image))
    on_pictures(1)
  found = judge.judge_classes(
    looks, pictures.labels, pictures.ids, outsiders, on_pictures
  )
  return Verdict(found.scores, found.flags, found.places)


@dataclasses.dataclass(frozen=True)
class VisibleTrigger(Detector):
  """Flags what recurs in a part of a class, and in no other class."""

  version: ClassVar[int] = 4
  looks_at_pictures_alone: ClassVar[bool] = True

  outsiders: int = setting(
    160,
    'Pictures of other classes that each class is compared with.',
    at_least=1,
  )

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Scores by the likeness with what recurs; asks no network."""
    context.meter.count(0)
    with progress_bar(2 * len(pictures), 'visible triggers', 'img') as bar:
      return detect(pictures, outsiders=self.outsiders, on_pictures=bar.update)
