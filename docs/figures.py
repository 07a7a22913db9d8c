"""The table of results in the README, from the files in `results/`.

python -m docs.figures            # writes it
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

_ROOT = pathlib.Path(__file__).parents[1]
README = _ROOT / 'README.md'
_BEGIN, _END = '<!-- figures: begin -->\n', '<!-- figures: end -->\n'


class Line(NamedTuple):
  """A line of the table.

  Attributes:
    question: what is measured.
    ours: what came out.
    beside: the paper's figure, or a peer's.
    source: the folder or file below `results/`.
  """

  question: str
  ours: str
  beside: str
  source: str


def _read(path: str) -> Any:
  return json.loads((_ROOT / 'results' / path).read_text('utf-8'))


class _Study:
  """The table of a study."""

  def __init__(self, folder: str):
    rows = _read(f'{folder}/metrics.json')['rows']
    self._rows = {row['label']: row['columns'] for row in rows}

  def mean(self, column: str, *labels: str) -> float:
    """The mean of some rows, in percent."""
    found = [self._rows[label][column]['mean'] for label in labels]
    return 100 * sum(found) / len(found)

  def labels(self, ending: str) -> list[str]:
    """The rows whose names end so."""
    return [label for label in self._rows if label.endswith(ending)]


def _percent(*values: float) -> str:
  return '; '.join(f'{value:.1f}' for value in values)


def _headline() -> list[Line]:
  study, asr = _Study('paper/headline'), 'protected ASR %'
  mean, most = 'all: mean', 'all: most'
  drop, worst = (study.mean('accuracy drop %', row) for row in (mean, most))
  return [
    Line(
      'LFW, five pairs of people, three seeds: ASR % without a defense; with '
      'BA-BAM (in the worst run)',
      f'{_percent(study.mean("malicious ASR %", mean), study.mean(asr, mean))} '
      f'({_percent(study.mean(asr, most))})',
      'paper: 100; at most 20',
      'paper/headline',
    ),
    Line(
      'the accuracy that it costs there, in points (in the worst run)',
      f'{_percent(drop)} ({_percent(worst)})',
      'paper: at most 2.4',
      'paper/headline',
    ),
  ]


def _defenses() -> Line:
  study = _Study('defenses/multiclass')

  def asr(name: str) -> str:
    return _percent(study.mean('ASR %', f'hidden trigger, {name}'))

  ours = [asr(x) for x in ('no defense', 'BA-BAM', 'flagged left out')]
  peers = {
    'Spectral Signatures': 'Spectral Signatures',
    'Activation Clustering': 'Activation Clustering',
    'STRIP': 'STRIP on inputs',
    'Fine-Pruning': 'Fine-Pruning',
    'RAB': 'RAB',
  }
  return Line(
    'LFW, a fifth of a class poisoned: ASR % without a defense; BA-BAM; what '
    'it flags left out',
    '; '.join(ours),
    ', '.join(f'{name} {asr(row)}' for name, row in peers.items()),
    'defenses/multiclass',
  )


def _faces() -> Line:
  study = _Study('faces/pairs')
  endings = ('no defense', 'BA-BAM', 'flagged left out')
  ours = [study.mean('ASR %', *study.labels(end)) for end in endings]
  base = study.mean('without attack %', *study.labels('no defense'))
  return Line(
    "dlib's face network, a stranger as one of eleven people: the same",
    _percent(*ours),
    f'without attack {_percent(base)}',
    'faces/pairs',
  )


def _share(cases: Sequence[dict[str, Any]]) -> float:
  flagged = sum(case['flagged']['general']['0.01'] for case in cases)
  return 100 * flagged / sum(case['pictures'] for case in cases)


def _sanitizer() -> Line:
  cases = _read('sanitize/detection.json')['cases']
  clean = [
    case
    for case in cases
    if not case['poisoned'] and 'noise' not in case['processing']
  ]
  poison = [
    _share(
      [
        case
        for case in cases
        if case['name'] == f'lfw alexnet eps{eps}'
        and case['processing'] == 'as it is'
      ]
    )
    for eps in (16, 8, 4)
  ]
  count = sum(case['pictures'] for case in clean)
  return Line(
    f'the sanitizer at its rate of 1 %: flagged % of {count:,} clean pictures '
    'of twelve kinds; of poison on LFW, eps 16; 8; 4',
    _percent(_share(clean), *poison),
    '',
    'sanitize/detection.md',
  )


def _folders() -> Line:
  found = _read('sanitize/folders.json')
  row = {
    (row['name'], row['poisons']): row['flagged in the end'] / row['poison']
    for row in found['poisoned']
  }
  kinds = ('faces150 dlib eps8', 'faces150 dlib eps4', 'lfw inception eps8')
  classes, named = (
    sum(row[key] for row in found['clean']) for key in ('classes', 'named')
  )
  return Line(
    "the same in one class of a folder, ten poisons against dlib's face "
    'network, eps 8; 4; against a network of a family that it never met, '
    f'eps 8; classes named by mistake, of {classes:,}',
    f'{_percent(*(100 * row[kind, 10] for kind in kinds))}; {named}',
    '',
    'sanitize/folders.md',
  )


def _speed() -> Line:
  found = _read('benchmarks.json')
  crafting = found['crafting']['ours_over']
  return Line(
    'crafting poison on two cores, times as fast as hand-tuned PyTorch; as ART',
    f'{crafting["torch-tuned"]:.2f}; {crafting["art"]:.2f}',
    '',
    'benchmarks.md',
  )


def table() -> str:
  """The table."""
  lines = [
    *_headline(),
    _defenses(),
    _faces(),
    _sanitizer(),
    _folders(),
    _speed(),
  ]
  return '\n'.join(
    [
      '| | ours | beside it | from `results/` |',
      '|---|---|---|---|',
      *(
        f'| {line.question} | {line.ours} | {line.beside} | '
        f'[{line.source}](results/{line.source}) |'
        for line in lines
      ),
      '',
    ]
  )


def in_readme(text: str) -> str:
  """A README with the table in its place."""
  before, _, rest = text.partition(_BEGIN)
  _, _, after = rest.partition(_END)
  return f'{before}{_BEGIN}{table()}{_END}{after}'


if __name__ == '__main__':
  README.write_text(in_readme(README.read_text('utf-8')), 'utf-8')
