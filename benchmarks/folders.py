"""Poison as the sanitizer meets it: in one class of a folder of clean ones.

  python -m launch.weights --model=mobile_face_net \
    convert ../shared/data/models/mobilefacenet.onnx
  python -m benchmarks.folders --data=../shared/data

Pictures and poison are those of `benchmarks.detection`; the poison is kept in
`--work` and reused. A folder is made of a domain's classes; one of them keeps
ten of its pictures and gets some of the poison. Counted is how often that class
is named, and what is flagged in it at once and after the closer look; how often
an honest class is named, in these folders and in those without poison, and how
many of its pictures the closer look flags. Writes
`results/sanitize/folders.json` and `.md`; 15 minutes on two cores, the poison
not included.
"""

import pathlib
import shlex
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from babam_jax import cpu, files, seeds
from babam_jax.defenses import calibration, pirm
from babam_jax.experiment import environment
from babam_jax.progress import progress_bar
from babam_jax.sanitizer import folder_verdict
from babam_jax.sanitizer.folder_scores import FolderScores
from benchmarks import judged_pictures
from benchmarks.judged_pictures import (
  AS_IT_IS,
  COSTLY,
  DOMAINS,
  KINDS,
  PROCESSINGS,
)

_DATA = flags.DEFINE_string('data', '../shared/data', 'The folder of all data.')
_WORK = flags.DEFINE_string('work', 'runs/detection', 'A folder for poison.')
_PIRM = flags.DEFINE_string('pirm', 'general', 'A PIRM by name or file.')
_RESULTS = flags.DEFINE_string('results', 'results/sanitize', 'A folder.')
_RATE = 0.01
_POISONS = 30  # crafted of each kind
_PICTURES, _PER_CLASS = 400, 20  # of a domain
_FEWER, _FEWER_PER_CLASS = 60, 6  # where they are costly
_VICTIMS_OWN = 10  # clean pictures beside the poison
_COUNTS = (5, 10, 30)  # poisons of a victim
_FOLDERS = 12  # with each kind and number of poisons
_FEW = (6, 10, 20)  # classes of smaller folders without poison
_UNEQUAL = 5  # folders with classes of 1 to 20 pictures

Scores = np.ndarray
Classes = list[Scores]


class Judge(NamedTuple):
  """A PIRM and its threshold.

  Attributes:
    model: the PIRM.
    threshold: of the rate.
  """

  model: pirm.Pirm
  threshold: float

  def looked_at(self, classes: Classes) -> 'LookedAt':
    """What the sanitizer does in a folder with these scores."""
    found = FolderScores()
    for number, scores in enumerate(classes):
      found.add(str(number), scores)
    clean = self.model.calibration.clean
    verdict = folder_verdict.judge(found, self.threshold, _RATE, clean)
    closer = self.threshold if verdict.closer is None else verdict.closer
    return LookedAt(
      verdict.named, np.where(verdict.named, closer, self.threshold)
    )


class LookedAt(NamedTuple):
  """What the sanitizer does in a folder.

  Attributes:
    named: whether each class is named.
    thresholds: the pictures of each class with a higher score are flagged.
  """

  named: np.ndarray
  thresholds: np.ndarray


def domain_classes(judge: Judge, domain: str, processing: str) -> Classes:
  """The scores of the clean pictures of a domain, class by class."""
  data = pathlib.Path(_DATA.value)
  of_case = (
    (_FEWER, _FEWER_PER_CLASS)
    if processing in COSTLY
    else (_PICTURES, _PER_CLASS)
  )
  pictures = judged_pictures.choose_classes(domain, data, *of_case)
  scores = judged_pictures.scores(judge.model, pictures, processing)
  of = np.array([judged_pictures.class_of(picture) for picture in pictures])
  return [scores[of == name] for name in dict.fromkeys(of)]


def poisoned(
  judge: Judge, name: str, clean: Classes, poison: Scores, count: int
) -> dict[str, Any]:
  """Folders of which one class gets `count` poisons.

  Args:
    judge: the PIRM.
    name: of the poison.
    clean: the scores of the domain's classes.
    poison: those of the poison.
    count: how many a victim gets.
  """
  rng = seeds.numpy_rng(judged_pictures.SEED, f'{name} {count} folders')
  named = before = after = false = own = others = 0
  for _ in range(_FOLDERS):
    victim = int(rng.integers(len(clean)))
    bad = rng.permutation(poison)[:count]
    good = rng.permutation(clean[victim])[:_VICTIMS_OWN]
    classes = [*clean]
    classes[victim] = np.concatenate([bad, good])
    found = judge.looked_at(classes)
    named += int(found.named[victim])
    others += int(found.named.sum()) - int(found.named[victim])
    before += int((bad > judge.threshold).sum())
    after += int((bad > found.thresholds[victim]).sum())
    false += int((good > found.thresholds[victim]).sum())
    own += len(good)
  return {
    'name': name,
    'poisons': count,
    'folders': _FOLDERS,
    'named': named,
    'others named': others,
    'poison': _FOLDERS * len(bad),
    'flagged at once': before,
    'flagged in the end': after,
    'own pictures': own,
    'own flagged': false,
  }


def honest(judge: Judge, domain: str, processing: str) -> dict[str, Any]:
  """Folders of a domain without poison: all its classes, and a few."""
  classes = domain_classes(judge, domain, processing)
  rng = seeds.numpy_rng(judged_pictures.SEED, f'{domain} {processing} few')
  made = [classes]
  for count in _FEW:
    if count < len(classes):
      chosen = rng.choice(len(classes), count, replace=False)
      made.append([classes[i] for i in chosen])
  for _ in range(_UNEQUAL):
    made.append([c[: rng.integers(1, len(c) + 1)] for c in classes])
  named = pictures = at_once = in_the_end = 0
  for one in made:
    found = judge.looked_at(one)
    named += int(found.named.sum())
    for scores, threshold in zip(one, found.thresholds, strict=True):
      pictures += len(scores)
      at_once += int((scores > judge.threshold).sum())
      in_the_end += int((scores > threshold).sum())
  return {
    'name': domain,
    'processing': processing,
    'classes': sum(map(len, made)),
    'named': named,
    'pictures': pictures,
    'flagged at once': at_once,
    'flagged in the end': in_the_end,
  }


def poisons(judge: Judge) -> Iterator[dict[str, Any]]:
  """All kinds of poison, on their ways to the defender."""
  data, work = pathlib.Path(_DATA.value), pathlib.Path(_WORK.value)
  known: dict[tuple[str, str], Classes] = {}
  for kind in KINDS:
    images = judged_pictures.craft(kind, data, work, _POISONS)
    for processing in (AS_IT_IS, *kind.on_the_way):
      place = kind.domain, processing
      if place not in known:
        known[place] = domain_classes(judge, *place)
      name = kind.label
      if processing != AS_IT_IS:
        name = f'{name}, {processing}'
      scores = judged_pictures.scores(judge.model, images, processing)
      for count in _COUNTS:
        yield poisoned(judge, name, known[place], scores, count)


def main(argv) -> None:
  """Scores, judges, writes."""
  del argv
  cpu.configure()
  model = pirm.load_pirm(_PIRM.value)
  judge = Judge(model, calibration.threshold(model.calibration, _RATE))
  bad, good = [], []
  with progress_bar(0, 'folders', 'kind') as bar:
    for row in poisons(judge):
      bad.append(row)
      bar.update()
    for domain in DOMAINS:
      for processing in PROCESSINGS:
        good.append(honest(judge, domain, processing))
        bar.update()
  record = {
    'pirm': {
      'name': _PIRM.value,
      'sha256': pirm.fingerprint(pirm.path_of(_PIRM.value)),
      'threshold': judge.threshold,
    },
    'rate': _RATE,
    'poisoned': bad,
    'clean': good,
    'environment': environment.describe(
      shlex.join(['python', '-m', 'benchmarks.folders', *sys.argv[1:]])
    ),
  }
  results = pathlib.Path(_RESULTS.value)
  files.write_json(results / 'folders.json', record)
  files.write_text(results / 'folders.md', as_markdown(record))
  print(as_markdown(record))


def as_markdown(record: dict[str, Any]) -> str:
  """The record as a page with tables."""
  bad, good = record['poisoned'], record['clean']

  def total(key: str) -> int:
    return sum(row[key] for row in good)

  lines = [
    '# Poison in one class of a folder',
    '',
    f'By `{record["environment"]["command"]}`: a folder of a domain, '
    f'{_PER_CLASS} pictures or fewer of each class; one class has '
    f'{_VICTIMS_OWN} pictures of its own and some poison; {_FOLDERS} folders '
    'each, of other victims. A class that stands out is named; there the '
    "threshold is that of the same rate among the folder's other classes. PIRM "
    f'`{record["pirm"]["name"]}`, rate {record["rate"]}; shares in %. The same '
    f'{_POISONS} poisons of a kind, and the same clean pictures, are in many '
    'folders.',
    '',
    '| poison | in the class | classes named | flagged at once '
    "| flagged in the end | of the victim's own |",
    '|---|---|---|---|---|---|',
  ]
  lines += [
    f'| {row["name"]} | {row["poisons"]} | {row["named"]} of {row["folders"]} '
    f'| {_share(row, "flagged at once", "poison")} '
    f'| {_share(row, "flagged in the end", "poison")} '
    f'| {_share(row, "own flagged", "own pictures")} |'
    for row in bad
  ]
  others = sum(row['others named'] for row in bad)
  lines += [
    '',
    f'In all these folders together, {others} classes without poison were '
    f'named. Of folders without poison, of {total("classes")} classes '
    f'{total("named")} were ({len(DOMAINS)} domains, each processed in '
    f'{len(PROCESSINGS)} ways; all classes together, '
    f'{", ".join(map(str, _FEW))} of them, and {_UNEQUAL} times all with 1 to '
    f'{_PER_CLASS} pictures each); of {total("pictures")} pictures '
    f'{total("flagged at once")} were flagged at once, '
    f'{total("flagged in the end")} in the end:',
    '',
    '| pictures | classes | named | flagged at once | in the end |',
    '|---|---|---|---|---|',
  ]
  lines += [
    f'| {row["name"]}, {row["processing"]} | {row["classes"]} | '
    f'{row["named"]} | {_share(row, "flagged at once", "pictures")} | '
    f'{_share(row, "flagged in the end", "pictures")} |'
    for row in good
    if row['named']
  ]
  return '\n'.join([*lines, ''])


def _share(row: dict[str, Any], part: str, whole: str) -> str:
  return f'{100 * row[part] / row[whole]:.1f}'


if __name__ == '__main__':
  app.run(main)
