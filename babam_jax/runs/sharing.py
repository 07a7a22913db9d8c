"""What runs share: their costly stages, which run computes them, and how long
that may take."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from babam_jax.experiment.stage_graph import costly
from babam_jax.runs.plan import Run
from babam_jax.store import keeping


class Stage(NamedTuple):
  """A stage that some of the runs need.

  Attributes:
    name: its name in the artifact store.
    result: the text that identifies its result.
    runs: the names of those that need this result.
  """

  name: str
  result: str
  runs: tuple[str, ...]


def stages(runs: Sequence[Run]) -> list[Stage]:
  """The costly stages to compute, and which runs need each.

  This may count too many (if nothing is flagged, the protected model is the
  malicious one): the store decides.
  """
  needed: dict[tuple[str, str], list[str]] = {}
  for run in runs:
    for key in costly(run.config).items():
      needed.setdefault(key, []).append(run.name)
  return [Stage(*key, tuple(names)) for key, names in needed.items()]


def waves(runs: Sequence[Run]) -> list[list[Run]]:
  """Runs that can run side by side without needing the same new stage, then
  all others.

  Each stage that several runs share is computed in the first wave, by one of
  them: nobody waits on an accelerator for what another is computing.
  """
  shared = [stage for stage in stages(runs) if len(stage.runs) > 1]
  taken: set[Stage] = set()
  first, rest = [], []
  for run in runs:
    mine = {stage for stage in shared if run.name in stage.runs}
    if mine & taken:
      rest.append(run)
    else:
      first.append(run)
      taken |= mine
  return [wave for wave in (first, rest) if wave]


def estimate(
  needed: Sequence[Stage], store: pathlib.Path
) -> tuple[float | None, float | None]:
  """Seconds of the costly stages, with and without reuse.

  Args:
    needed: the stages.
    store: the artifacts of earlier runs; a stage is expected to take as long
      as there on average. Results that it holds already are counted, too.

  Returns:
    None, None if a stage was never run.
  """
  took: dict[str, list[float]] = {}
  if store.is_dir():
    for kept in keeping.find(store):
      took.setdefault(kept.stage, []).append(kept.seconds)
  if not {stage.name for stage in needed} <= took.keys():
    return None, None
  mean = {name: float(np.mean(found)) for name, found in took.items()}
  once = sum(mean[stage.name] for stage in needed)
  each = sum(mean[stage.name] * len(stage.runs) for stage in needed)
  return once, each
