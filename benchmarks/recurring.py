"""What the detector of visible triggers flags: triggers of many kinds on faces,
and clean pictures of many kinds.

  python -m benchmarks.recurring --data=../shared/data

Each trigger is shown by 31 pictures of one person that are put among the 120
pictures of another (or, where the attack is of that kind, on 31 of his own),
saved as JPEG; five other people stand beside. No model is trained. Clean
pictures are in their classes: persons, fingers, eyes, kinds of things. Writes
`results/sanitize/recurring.json` and `.md`; a quarter of an hour on two cores.
"""

import pathlib
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from babam_jax import cpu, files
from babam_jax.attacks.base import Attack, TrueLabel
from babam_jax.data import processing
from babam_jax.data.image_folder import Picture
from babam_jax.evaluation.statistics import wilson_interval
from babam_jax.experiment import environment
from babam_jax.progress import progress_bar
from babam_jax.recurrence import judge
from babam_jax.recurrence.look import look
from benchmarks import judged_pictures, seen_triggers
from benchmarks.judged_pictures import DOMAINS, Pixels

_DATA = flags.DEFINE_string('data', '../shared/data', 'The folder of all data.')
_RESULTS = flags.DEFINE_string('results', 'results/sanitize', 'A folder.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Victims, attackers and triggers.')
_OUTSIDERS = 160
_POISONS, _OWN, _OTHERS, _BESIDE = 31, 120, 5, 50
_QUALITY = 92
_CLEAN = 2000  # pictures of a domain, at most
_PAIRS = (
  ('George_W_Bush', 'Jacques_Chirac'),
  ('Colin_Powell', 'Junichiro_Koizumi'),
  ('Tony_Blair', 'Ariel_Sharon'),
)


class Judged(NamedTuple):
  """Pictures that were judged.

  Attributes:
    flags: which were flagged.
    poisoned: which are poison.
    seconds: how long it took.
  """

  flags: np.ndarray
  poisoned: np.ndarray
  seconds: float


def judged(
  pictures: Sequence[Pixels | Picture],
  labels: np.ndarray,
  poisoned: np.ndarray,
) -> Judged:
  """Judges the pictures of all classes, as the detector does."""
  start = time.monotonic()
  looks = [look(judged_pictures.pixels(one)) for one in pictures]
  ids = np.array([str(number) for number in range(len(looks))])
  found = judge.judge_classes(looks, labels, ids, _OUTSIDERS)
  return Judged(found.flags, poisoned, time.monotonic() - start)


def slipped_in(
  attack: Attack, people: dict[str, list[Pixels]], seed: int
) -> Judged:
  """Judges the pictures of some people, one of whom is a victim."""
  victim, attacker = _PAIRS[seed % len(_PAIRS)]
  own = people[victim][:_OWN]
  base = people[attacker][:_POISONS]
  if isinstance(attack, TrueLabel):
    base, own = own[:_POISONS], own[_POISONS:]
  poison = attack.show(np.stack(base), seed=seed)
  saved = [processing.as_jpeg(one, _QUALITY) for one in poison]
  others = [name for name in people if name != victim][:_OTHERS]
  classes = [[*own, *saved], *(people[name][:_BESIDE] for name in others)]
  pictures = [one for pictures in classes for one in pictures]
  poisoned = np.zeros(len(pictures), bool)
  poisoned[len(own) : len(classes[0])] = True
  labels = np.repeat(np.arange(len(classes)), list(map(len, classes)))
  return judged(pictures, labels, poisoned)


def _row(name: str, found: Sequence[Judged]) -> dict[str, Any]:
  flags, poisoned = (
    np.concatenate([getattr(one, key) for one in found])
    for key in ('flags', 'poisoned')
  )
  return {
    'name': name,
    'poison': int(poisoned.sum()),
    'poison_flagged': int(flags[poisoned].sum()),
    'clean': int((~poisoned).sum()),
    'clean_flagged': int(flags[~poisoned].sum()),
    'ms_a_picture': 1000 * sum(one.seconds for one in found) / len(flags),
  }


def main(argv) -> None:
  """Judges, writes."""
  del argv
  cpu.configure()
  data = pathlib.Path(_DATA.value)
  people: dict[str, list[Pixels]] = {}
  for picture in DOMAINS['lfw'].find(data):
    pixels = judged_pictures.decoded(picture)
    people.setdefault(picture.class_name, []).append(pixels)
  rows, tried = [], seen_triggers.triggers()
  with progress_bar(len(tried) + len(DOMAINS), 'cases', 'case') as bar:
    for name, attack in tried.items():
      seeds = range(_SEEDS.value)
      found = [slipped_in(attack, people, seed) for seed in seeds]
      rows.append(_row(name, found))
      bar.update()
    for name in DOMAINS:
      pictures = judged_pictures.choose_classes(name, data, _CLEAN, None)
      classes = [judged_pictures.class_of(one) for one in pictures]
      _, labels = np.unique(classes, return_inverse=True)
      nothing = np.zeros(len(pictures), bool)
      rows.append(_row(f'clean {name}', [judged(pictures, labels, nothing)]))
      bar.update()
  record = {
    'cases': rows,
    'environment': environment.describe(
      shlex.join(['python', '-m', 'benchmarks.recurring', *sys.argv[1:]])
    ),
  }
  results = pathlib.Path(_RESULTS.value)
  files.write_json(results / 'recurring.json', record)
  files.write_text(results / 'recurring.md', as_markdown(record))
  print(as_markdown(record))


def as_markdown(record: dict[str, Any]) -> str:
  """The record as a page with a table."""
  lines = [
    '# What recurs: triggers that one can see',
    '',
    f'By `{record["environment"]["command"]}`: what the detector of visible '
    'triggers flags. No model is trained, and nothing was learned from any '
    'picture. Shares in % with 95 % intervals (Wilson).',
    '',
    '| pictures | poison | flagged | clean | flagged | ms a picture |',
    '|---|---|---|---|---|---|',
  ]
  for row in record['cases']:
    lines.append(
      f'| {row["name"]} | {row["poison"]} | {_share(row, "poison")} | '
      f'{row["clean"]} | {_share(row, "clean")} | {row["ms_a_picture"]:.0f} |'
    )
  return '\n'.join([*lines, ''])


def _share(row: dict[str, Any], which: str) -> str:
  if not row[which]:
    return ''
  share = row[f'{which}_flagged'] / row[which]
  low, high = wilson_interval(share, row[which])
  return f'{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]'


if __name__ == '__main__':
  app.run(main)
