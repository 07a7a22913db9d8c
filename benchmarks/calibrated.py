"""What `launch.sanitize --calibrate=DIR` finds: the rate is measured on clean
pictures of the same kind, of other classes than those that are judged.

  python -m launch.weights --model=mobile_face_net \
    convert ../shared/data/models/mobilefacenet.onnx
  python -m benchmarks.calibrated --data=../shared/data

Beside it, the rate that the PIRM brings along. Pictures and poison are those of
`benchmarks.detection`, as they are; the poison is kept in `--work` and reused.
Writes `results/sanitize/calibrated.json` and `.md`; some minutes on two cores.
"""

import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from babam_jax import cpu, files
from babam_jax.data.image_folder import Picture
from babam_jax.defenses import calibration, pirm
from babam_jax.evaluation.statistics import wilson_interval
from babam_jax.experiment import environment
from babam_jax.progress import progress_bar
from benchmarks import judged_pictures
from benchmarks.judged_pictures import KINDS

_DATA = flags.DEFINE_string('data', '../shared/data', 'The folder of all data.')
_WORK = flags.DEFINE_string('work', 'runs/detection', 'A folder for poison.')
_PIRM = flags.DEFINE_string('pirm', 'general', 'A PIRM by name or file.')
_RESULTS = flags.DEFINE_string('results', 'results/sanitize', 'A folder.')
_RATE = 0.01
_TRUSTED, _JUDGED = 400, 100  # pictures, where there are so many
_FEWEST = 99  # trusted pictures, for the rate
_POISONS = 30


def divided(
  domain: str, data: pathlib.Path
) -> tuple[list[Picture], list[Picture]]:
  """Clean pictures that are trusted, and those that are judged: of other
  classes."""
  judged = judged_pictures.choose_classes(domain, data, _JUDGED)
  others = _others(domain, data, judged)
  if len(others) < _FEWEST:
    judged = judged_pictures.choose_classes(domain, data, 1)
    others = _others(domain, data, judged)
  return others[:_TRUSTED], judged


def _others(
  domain: str, data: pathlib.Path, judged: Sequence[Picture]
) -> list[Picture]:
  """The pictures of all other classes, in random order."""
  names = set(map(judged_pictures.class_of, judged))
  return [
    picture
    for picture in judged_pictures.choose(domain, data)
    if judged_pictures.class_of(picture) not in names
  ]


def main(argv) -> None:
  """Calibrates, judges, writes."""
  del argv
  cpu.configure()
  data, work = pathlib.Path(_DATA.value), pathlib.Path(_WORK.value)
  model = pirm.load_pirm(_PIRM.value)
  own = calibration.threshold(model.calibration, _RATE)
  rows = []
  with progress_bar(len(KINDS), 'kinds of poison', 'kind') as bar:
    for domain in dict.fromkeys(kind.domain for kind in KINDS):
      trusted, judged = (
        judged_pictures.scores(model, part) for part in divided(domain, data)
      )
      known = model.calibration._replace(clean=np.sort(trusted))
      threshold = calibration.threshold(known, _RATE)
      rows.append(_row(domain, False, judged, threshold, own, len(trusted)))
      for kind in (kind for kind in KINDS if kind.domain == domain):
        poison = judged_pictures.craft(kind, data, work, _POISONS)
        found = judged_pictures.scores(model, poison)
        rows.append(_row(kind.label, True, found, threshold, own, len(trusted)))
        bar.update()
  record = {
    'pirm': {
      'name': _PIRM.value,
      'sha256': pirm.fingerprint(pirm.path_of(_PIRM.value)),
      'threshold': own,
    },
    'rate': _RATE,
    'cases': rows,
    'environment': environment.describe(
      shlex.join(['python', '-m', 'benchmarks.calibrated', *sys.argv[1:]])
    ),
  }
  results = pathlib.Path(_RESULTS.value)
  files.write_json(results / 'calibrated.json', record)
  files.write_text(results / 'calibrated.md', as_markdown(record))
  print(as_markdown(record))


def _row(
  name: str,
  poisoned: bool,
  found: np.ndarray,
  threshold: float,
  own: float,
  trusted: int,
) -> dict[str, Any]:
  return {
    'name': name,
    'poisoned': poisoned,
    'pictures': len(found),
    'trusted': trusted,
    'threshold': threshold,
    'flagged': int((found > threshold).sum()),
    'flagged_without': int((found > own).sum()),
  }


def as_markdown(record: dict[str, Any]) -> str:
  """The record as a page with a table."""
  lines = [
    '# Calibrated on clean pictures of the same kind',
    '',
    f'By `{record["environment"]["command"]}`: what the PIRM '
    f'`{record["pirm"]["name"]}` flags at a false-positive rate of '
    f'{record["rate"]}, measured on trusted pictures of the same kind (other '
    'persons, fingers, things than those judged), as `launch.sanitize '
    '--calibrate` does, and at the rate that it brings along. Shares in % with '
    '95 % intervals (Wilson).',
    '',
    '| pictures | number | trusted | threshold | flagged | without '
    '`--calibrate` |',
    '|---|---|---|---|---|---|',
  ]
  for poisoned in (True, False):
    for row in record['cases']:
      if row['poisoned'] == poisoned:
        title = row['name'] if poisoned else f'clean: {row["name"]}'
        lines.append(
          f'| {title} | {row["pictures"]} | {row["trusted"]} | '
          f'{row["threshold"]:.3f} | {_share(row, "flagged")} | '
          f'{_share(row, "flagged_without")} |'
        )
  return '\n'.join([*lines, ''])


def _share(row: dict[str, Any], key: str) -> str:
  share = row[key] / row['pictures']
  low, high = wilson_interval(share, row['pictures'])
  return f'{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]'


if __name__ == '__main__':
  app.run(main)
