"""What PIRMs flag among pictures that they never saw, at a stated rate.

  python -m launch.weights --model=mobile_face_net \
    convert ../shared/data/models/mobilefacenet.onnx
  python -m benchmarks.detection --data=../shared/data

Scores clean pictures of many kinds, and poison of many kinds, processed in many
ways, as the sanitizer does; writes how many are flagged to
`results/sanitize/detection.json` and `.md`. The poison is kept in `--work` and
reused; there the worst pictures are shown, too (natural ones only, and not for
publication). About an hour on two cores.
"""

import math
import pathlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags
from PIL import Image
from sklearn import metrics as sklearn_metrics

from babam_jax import cpu, files
from babam_jax.data.image_folder import Picture
from babam_jax.defenses import any_size, calibration, grain, pirm
from babam_jax.evaluation.statistics import wilson_interval
from babam_jax.experiment import environment
from babam_jax.progress import progress_bar
from benchmarks import judged_pictures
from benchmarks.judged_pictures import (
  AS_IT_IS,
  COSTLY,
  DOMAINS,
  KINDS,
  PROCESSINGS,
  Pixels,
)

_DATA = flags.DEFINE_string('data', '../shared/data', 'The folder of all data.')
_WORK = flags.DEFINE_string('work', 'runs/detection', 'A folder for poison.')
_PIRMS = flags.DEFINE_list(
  'pirms', ['general', 'shipped', 'hardened'], 'PIRMs by name or file.'
)
_RATES = (0.01, 0.001)
_POISONS = flags.DEFINE_integer('poisons', 30, 'Pictures of each kind.')
_CLEAN = flags.DEFINE_integer('clean', 200, 'Pictures of each domain at most.')
_ONLY = flags.DEFINE_list('only', [], 'Names of domains and kinds; all.')
_RESULTS = flags.DEFINE_string('results', 'results/sanitize', 'A folder.')
_BATCH = 16
_NATURAL = ('caltech101', 'textures')
_WORST = 12  # pictures shown
_ROC_RATES = (0.001, 0.01, 0.05, 0.1)


class Case(NamedTuple):
  """Pictures that are counted together.

  Attributes:
    name: the domain, or the kind of poison.
    processing: one of `PROCESSINGS`.
    poisoned: whether they are poison.
    pictures: the pictures.
  """

  name: str
  processing: str
  poisoned: bool
  pictures: Sequence[Pixels | Picture]

  @property
  def domain(self) -> str:
    """Where the pictures come from."""
    return next(name for name in DOMAINS if self.name.startswith(name))


def cases() -> Iterator[Case]:
  """All cases, in order."""
  data, work = pathlib.Path(_DATA.value), pathlib.Path(_WORK.value)
  for domain in DOMAINS:
    if _ONLY.value and domain not in _ONLY.value:
      continue
    pictures = judged_pictures.choose_classes(domain, data, _CLEAN.value)
    for processing in PROCESSINGS:
      count = len(pictures) // (5 if processing in COSTLY else 1)
      yield Case(domain, processing, False, pictures[: max(1, count)])
  for kind in KINDS:
    if _ONLY.value and kind.label not in _ONLY.value:
      continue
    poison = judged_pictures.craft(kind, data, work, _POISONS.value)
    for processing in (AS_IT_IS, *kind.on_the_way):
      yield Case(kind.label, processing, True, poison)


class Scores(NamedTuple):
  """What one PIRM says of the pictures of a case.

  Attributes:
    values: the probability of poison of each.
    grain: how rough each is, in gray levels.
  """

  values: np.ndarray
  grain: np.ndarray


def score(models: Sequence[pirm.Pirm], case: Case) -> list[Scores]:
  """What each PIRM says of a case."""
  found: list[list[grain.Evidence]] = [[] for _ in models]
  for start in range(0, len(case.pictures), _BATCH):
    batch = [
      judged_pictures.process(
        case.processing, judged_pictures.pixels(p), start + i
      )
      for i, p in enumerate(case.pictures[start : start + _BATCH])
    ]
    views = [any_size.views(models[0].variant, pixels) for pixels in batch]
    for model, evidence in zip(models, found, strict=True):
      evidence += any_size.evidence(model, views)
  return [
    Scores(
      calibration.probability(
        model.calibration,
        any_size.normalized(model.calibration.strata, evidence),
      ),
      np.array([view.grain[0] for view in evidence]),
    )
    for model, evidence in zip(models, found, strict=True)
  ]


def main(argv) -> None:
  """Scores, counts, writes."""
  del argv
  cpu.configure()
  results = pathlib.Path(_RESULTS.value)
  names = _PIRMS.value
  models = [pirm.load_pirm(name) for name in names]
  thresholds = {
    rate: [_threshold(model, rate) for model in models] for rate in _RATES
  }
  rows, scored = [], []
  with progress_bar(0, 'cases', 'case') as bar:
    for case in cases():
      found = score(models, case)
      scored.append((case, found[0]))
      rows.append(_row(case, names, found, thresholds))
      bar.update()
  record = {
    'pirms': {
      name: {
        'sha256': pirm.fingerprint(pirm.path_of(name)),
        'thresholds': {str(r): thresholds[r][i] for r in _RATES},
      }
      for i, name in enumerate(names)
    },
    'cases': rows,
    'summary': summary(rows, names),
    'strata': strata(scored, thresholds[_RATES[0]][0]),
    'natural auroc': natural_auroc(scored),
    'roc': roc(scored),
    'reliability': reliability(scored),
    'environment': environment.describe(
      shlex.join(['python', '-m', 'benchmarks.detection', *sys.argv[1:]])
    ),
  }
  files.write_json(results / 'detection.json', record)
  files.write_text(results / 'detection.md', as_markdown(record))
  _show_worst(scored, thresholds[_RATES[0]][0])
  print(as_markdown(record))


def _threshold(model: pirm.Pirm, rate: float) -> float:
  """That of a rate; 0.5 for a PIRM without scores of clean pictures."""
  if not len(model.calibration.clean):
    return calibration.UNCALIBRATED
  return calibration.threshold(model.calibration, rate)


def _row(
  case: Case,
  names: Sequence[str],
  found: Sequence[Scores],
  thresholds: dict[float, list[float]],
) -> dict[str, Any]:
  return {
    'name': case.name,
    'processing': case.processing,
    'poisoned': case.poisoned,
    'pictures': len(case.pictures),
    'flagged': {
      name: {
        str(rate): int((scores.values > thresholds[rate][i]).sum())
        for rate in _RATES
      }
      for i, (name, scores) in enumerate(zip(names, found, strict=True))
    },
    'median_score': {
      name: round(float(np.median(scores.values)), 4)
      for name, scores in zip(names, found, strict=True)
    },
  }


def summary(
  rows: Sequence[dict[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
  """Clean pictures flagged over all, and in the worst case."""
  clean = [row for row in rows if not row['poisoned']]
  result = {}
  for name in names:
    for rate in map(str, _RATES):
      flagged = [row['flagged'][name][rate] for row in clean]
      shares = [
        count / row['pictures']
        for count, row in zip(flagged, clean, strict=True)
      ]
      total = sum(row['pictures'] for row in clean)
      result[f'{name} at {rate}'] = {
        'clean pictures': total,
        'flagged': sum(flagged),
        'cases above 1.5 times the rate': sum(
          share > 1.5 * float(rate) for share in shares
        ),
        'cases': len(clean),
        'worst share': max(shares, default=0.0),
      }
  return result


def strata(
  scored: Sequence[tuple[Case, Scores]], threshold: float
) -> list[dict[str, Any]]:
  """The share of clean pictures flagged, by grain, by the first PIRM."""
  clean = [found for case, found in scored if not case.poisoned]
  if not clean:
    return []
  grains = np.concatenate([found.grain for found in clean])
  flagged = np.concatenate([found.values > threshold for found in clean])
  edges = (0, 0.5, 1, 2, 4, 8, 16, math.inf)
  result = []
  for low, high in zip(edges[:-1], edges[1:], strict=True):
    here = (grains >= low) & (grains < high)
    if here.any():
      result.append(
        {
          'grain': f'{low} to {high}',
          'pictures': int(here.sum()),
          'flagged': int(flagged[here].sum()),
        }
      )
  return result


def _labeled(
  scored: Sequence[tuple[Case, Scores]],
) -> tuple[np.ndarray, np.ndarray]:
  values = np.concatenate([found.values for _, found in scored])
  truth = [np.full(len(case.pictures), case.poisoned) for case, _ in scored]
  return values, np.concatenate(truth)


def natural_auroc(scored: Sequence[tuple[Case, Scores]]) -> float | None:
  """Of the first PIRM, on natural pictures held out, however processed."""
  natural = [(case, found) for case, found in scored if case.domain in _NATURAL]
  if len({case.poisoned for case, _ in natural}) < 2:
    return None
  values, truth = _labeled(natural)
  return float(sklearn_metrics.roc_auc_score(truth, values))


def roc(scored: Sequence[tuple[Case, Scores]]) -> list[dict[str, Any]]:
  """How well the first PIRM tells each kind of poison from clean pictures of
  the same domain, processed alike, whatever the threshold.

  What is lost at a threshold, but not here, is lost to calibration.
  """
  clean = {
    (case.domain, case.processing): found.values
    for case, found in scored
    if not case.poisoned
  }
  result = []
  for case, found in scored:
    beside = clean.get((case.domain, case.processing))
    if not case.poisoned or beside is None:
      continue
    values = np.concatenate([beside, found.values])
    truth = np.arange(len(values)) >= len(beside)
    false, true, _ = sklearn_metrics.roc_curve(
      truth, values, drop_intermediate=False
    )
    result.append(
      {
        'name': case.name,
        'processing': case.processing,
        'auroc': float(sklearn_metrics.roc_auc_score(truth, values)),
        'tpr': {str(r): float(true[false <= r].max()) for r in _ROC_RATES},
      }
    )
  return result


def reliability(
  scored: Sequence[tuple[Case, Scores]],
) -> list[dict[str, float]]:
  """Scores beside the truth, of the first PIRM, over all cases."""
  values, truth = _labeled(scored)
  return [b._asdict() for b in calibration.reliability(values, truth)]


def _show_worst(
  scored: Sequence[tuple[Case, Scores]],
  threshold: float,
) -> None:
  """Pictures of the worst false flags and misses, natural ones only."""
  for poisoned, name in ((False, 'false_flags'), (True, 'misses')):
    ranked = sorted(
      (
        (-value if not poisoned else value, case, number)
        for case, found in scored
        if case.poisoned == poisoned and case.domain in _NATURAL
        for number, value in enumerate(found.values.tolist())
        if (value > threshold) != poisoned
      ),
      key=lambda one: one[0],
    )
    shown = [
      _middle(
        judged_pictures.process(
          case.processing, judged_pictures.pixels(case.pictures[number]), number
        )
      )
      for _, case, number in ranked[:_WORST]
    ]
    if shown:
      path = pathlib.Path(_WORK.value) / f'{name}.png'
      Image.fromarray(np.concatenate(shown, axis=1)).save(path)


def _middle(picture: Pixels, side: int = 128) -> Pixels:
  """The middle at native resolution."""
  height, width = picture.shape[:2]
  missing = [(0, max(0, side - length)) for length in (height, width)]
  picture = np.pad(picture, (*missing, (0, 0)))
  top, left = ((length - side) // 2 for length in picture.shape[:2])
  return picture[top : top + side, left : left + side]


# --- The page ---


def as_markdown(record: dict[str, Any]) -> str:
  """The record as a page with tables."""
  names = list(record['pirms'])
  command = record['environment']['command']
  lines = [
    '# What PIRMs find in pictures that they never saw',
    '',
    f'By `{command}`: at the thresholds that belong to a false-positive rate '
    f"of {_RATES[0]} on each PIRM's own calibration pictures (in brackets: "
    f'{_RATES[1]}). Shares in % with 95 % intervals (Wilson).',
    '',
    '## Clean pictures, all cases',
    '',
    '| PIRM at rate | pictures | flagged % | cases above 1.5 times the rate | '
    'worst case % |',
    '|---|---|---|---|---|',
  ]
  for name, one in record['summary'].items():
    lines.append(
      f'| {name} | {one["clean pictures"]} | '
      f'{100 * one["flagged"] / max(1, one["clean pictures"]):.2f} | '
      f'{one["cases above 1.5 times the rate"]} of {one["cases"]} | '
      f'{100 * one["worst share"]:.1f} |'
    )
  for poisoned, title in ((True, 'Poison'), (False, 'Clean pictures')):
    lines += ['', f'## {title}', '']
    lines += [
      f'| pictures | processing | number | {" | ".join(names)} |',
      '|---' * (3 + len(names)) + '|',
    ]
    lines += [
      _line(row, names)
      for row in record['cases']
      if row['poisoned'] == poisoned
    ]
  lines += ['', f'## Clean pictures by grain ({names[0]})', '']
  lines += ['| grain, gray levels | pictures | flagged % |', '|---|---|---|']
  for one in record['strata']:
    lines.append(
      f'| {one["grain"]} | {one["pictures"]} | '
      f'{_share(one["flagged"], one["pictures"])} |'
    )
  auroc = record['natural auroc']
  if auroc is not None:
    lines += [
      '',
      f'AUROC on the natural pictures held out (`{names[0]}`, the poison and '
      f'the clean pictures above, however processed): {auroc:.4f}.',
    ]
  lines += _roc_lines(record['roc'], names[0])
  lines += ['', f'## Score and truth ({names[0]}, all cases)', '']
  lines += ['| mean score | poisoned % | pictures |', '|---|---|---|']
  for one in record['reliability']:
    lines.append(
      f'| {one["score"]:.3f} | {100 * one["poisoned"]:.1f} | {one["count"]} |'
    )
  return '\n'.join([*lines, ''])


def _roc_lines(found: Sequence[dict[str, Any]], name: str) -> list[str]:
  """The table of points of ROC curves."""
  lines = ['', f'## ROC, beside clean pictures of the same kind ({name})', '']
  titles = [f'TPR % at FPR {100 * rate:g} %' for rate in _ROC_RATES]
  lines.append(f'| poison | processing | AUROC | {" | ".join(titles)} |')
  lines.append('|---' * (3 + len(titles)) + '|')
  for one in found:
    shares = [f'{100 * share:.1f}' for share in one['tpr'].values()]
    lines.append(
      f'| {one["name"]} | {one["processing"]} | {one["auroc"]:.4f} | '
      f'{" | ".join(shares)} |'
    )
  return lines


def _line(row: dict[str, Any], names: Sequence[str]) -> str:
  high, low = map(str, _RATES)
  shares = [
    f'{_share(row["flagged"][name][high], row["pictures"])} '
    f'({100 * row["flagged"][name][low] / row["pictures"]:.1f})'
    for name in names
  ]
  return (
    f'| {row["name"]} | {row["processing"]} | {row["pictures"]} | '
    f'{" | ".join(shares)} |'
  )


def _share(flagged: int, count: int) -> str:
  low, high = wilson_interval(flagged / count, count)
  return f'{100 * flagged / count:.1f} [{100 * low:.1f}, {100 * high:.1f}]'


if __name__ == '__main__':
  app.run(main)
