"""The PIRM as a detector (Algorithm 2, line 3; paper 3.4 and 4.10)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from babam_jax.data.examples import Examples
from babam_jax.defenses import pirm
from babam_jax.defenses.base import Context, Detector, Need, Verdict
from babam_jax.progress import progress_bar
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class PirmDetector(Detector):
  """Flags pictures that a poison image recognition model takes for poison."""

  needs: ClassVar[frozenset[Need]] = frozenset({Need.PIRMS})
  decided_later: ClassVar[frozenset[str]] = frozenset({'threshold'})
  judges_inputs: ClassVar[bool] = True
  looks_at_pictures_alone: ClassVar[bool] = True

  checkpoint: str = setting(
    'shipped',
    "The PIRM: 'shipped' (knows one kind of poison well), 'general' (many "
    "kinds), 'hardened' (poison that evades those two, too; see "
    "babam_jax/assets), 'train' (needs pirm.root), or the file of a trained "
    'one.',
  )
  ensemble: tuple[str, ...] = setting(
    (),
    'Further PIRMs, by name or file: the highest of all scores counts.',
    each=(str,),
  )
  threshold: float = setting(
    0.5,
    'A picture with a higher probability of poison is flagged.',
    at_least=0,
    at_most=1,
  )
  batch_size: int = setting(
    32, 'Pictures per scoring step, over all devices.', at_least=1
  )

  @property
  def members(self) -> tuple[str, ...]:
    """All PIRMs that it uses, by name or file."""
    return (self.checkpoint, *self.ensemble)

  @property
  def cut(self) -> float:
    """The threshold."""
    return self.threshold

  def facts(self, field: str) -> dict[str, Any]:
    """The files of the PIRMs; one that is trained first has none yet."""
    path = field.removeprefix('config.')
    if self.checkpoint != pirm.TRAIN:
      pirm.check_file(f'{path}.checkpoint', self.checkpoint, "'train', ")
    for where in self.ensemble:
      pirm.check_file(f'{path}.ensemble', where)
    files = [where for where in self.members if where != pirm.TRAIN]
    return {'pirms': [pirm.fingerprint(pirm.path_of(f)) for f in files]}

  def judge(self, context: Context, pictures: Examples) -> Verdict:
    """Scores by the probability of poison, the highest of several PIRMs'."""
    total = len(context.pirms) * len(pictures)
    with progress_bar(total, 'PIRM scores', 'img') as bar:
      scores = [
        pirm.score(model, pictures.images, self.batch_size, bar.update)
        for model in context.pirms
      ]
    context.meter.count(total)
    highest = np.max(scores, axis=0)
    return Verdict(highest, highest > self.threshold)

  def decide(self, verdict: Verdict) -> Verdict:
    """Flags the scores above the threshold."""
    return verdict._replace(flags=verdict.scores > self.threshold)

  def holdouts(self, models: tuple[pirm.Pirm, ...]) -> dict[str, Any]:
    """The rates of each PIRM on natural pictures held out when it was
    trained."""
    pairs = zip(self.members, models, strict=True)
    return {where: model.meta.get('holdout') for where, model in pairs}
