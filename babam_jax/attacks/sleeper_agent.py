"""Sleeper Agent (Souri et al. 2022, "Sleeper Agent: scalable hidden trigger
backdoors for neural networks trained from scratch", algorithm 1).

Pictures of the victim are changed, within `eps`, until training on them moves
a model where the patched attacker under the victim's label would. Round by
round: train a model, match its gradient, train a new one on the changed poison.
Left out: choosing the pictures with the largest gradients (here the scenario
chooses them), and augmentation while matching.
"""

import dataclasses
import pathlib
from typing import ClassVar

import numpy as np
from jaxtyping import PyTree

from babam_jax import files
from babam_jax.attacks import own_model
from babam_jax.attacks.base import (
  CRAFTING,
  Crafted,
  Knowledge,
  PatchAttack,
  Pictures,
  needed,
)
from babam_jax.attacks.collision import to_uint8_within
from babam_jax.attacks.gradient_matching import Changes, Matcher, Trained
from babam_jax.attacks.optimizers import CraftingSpec
from babam_jax.progress import progress_bar
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class SleeperAgent(CraftingSpec, PatchAttack):
  """Pictures of the victim whose training gradient is that of the attacker."""

  knows_training: ClassVar[bool] = True

  retrainings: int = setting(
    2,
    'How often the attacker retrains his model while crafting.',
    at_least=0,
  )

  def craft(
    self,
    targets: Pictures,
    sources: Pictures,
    *,
    seed: int = 0,
    knowledge: Knowledge | None = None,
    scratch: pathlib.Path | None = None,
  ) -> Crafted:
    """Crafts against models that the attacker trains for himself.

    Raises:
      UserError: `knowledge` is None.
    """
    self.check_pictures(targets, sources)
    knowledge = needed(knowledge)
    shown = self.show(sources, seed=seed, stream=CRAFTING)
    with files.scratch_folder(scratch) as folder:
      delta, cosine = self._rounds(targets, shown, seed, knowledge, folder)
    images = to_uint8_within(targets, delta, self.eps)
    return Crafted(images, targets, shown, {'cosine': cosine}, None)

  def _rounds(
    self,
    targets: Pictures,
    shown: Pictures,
    seed: int,
    known: Knowledge,
    folder: pathlib.Path,
  ) -> tuple[Changes, float]:
    """The changes after all rounds; finished rounds are kept in the folder.

    Also returns the cosine of the angle between the poison's gradient and the
    wanted one in the last step, as the mean over batches.
    """
    delta, cosine = np.zeros(targets.shape, np.float32), 0.0
    matcher = None
    for number, iterations in enumerate(self._iterations()):
      path = folder / f'round{number}.npz'
      if not path.exists():
        poison = to_uint8_within(targets, delta, self.eps)
        poison = poison if number else poison[:0]  # nothing is poisoned yet
        model = own_model.train(known, poison, seed, folder / f'round{number}')
        # One for all rounds: only the parameters of their models differ.
        matcher = matcher or Matcher(model.logits, self, known.label)
        wanted = matcher.wanted(model, shown)
        delta, cosine = _match(
          matcher, model, wanted, targets, delta, self.batch_size, iterations
        )
        done = {'delta': delta, 'cosine': np.float32(cosine)}
        files.write_arrays(path, done)
      done = files.read_arrays(path)
      delta, cosine = done['delta'], float(done['cosine'])
    return delta, cosine

  def _iterations(self) -> list[range]:
    """The steps after each training, divided nearly equally."""
    steps = np.array_split(np.arange(self.iterations), self.retrainings + 1)
    return [range(found[0], found[-1] + 1) for found in steps if len(found)]


def _match(
  matcher: Matcher,
  model: Trained,
  wanted: PyTree,
  targets: Pictures,
  delta: Changes,
  batch_size: int,
  iterations: range,
) -> tuple[Changes, float]:
  """The changes after a round, and the mean of the batches' last cosines."""
  batches = -(-len(targets) // batch_size)
  cosines = []
  total = batches * len(iterations)
  with progress_bar(total, 'matching gradients', 'step') as bar:

    def on_iteration(cosine: float) -> None:
      cosines.append(cosine)
      bar.update()
      bar.set_postfix(cosine=f'{cosine:.3f}', refresh=False)

    delta = matcher.craft(
      model, wanted, targets, delta, iterations, on_iteration
    )
  last = len(iterations)
  return delta, float(np.mean(cosines[last - 1 :: last]))
