"""What the general PIRM flags among pictures that it never saw.

  python -m benchmarks.detection --faces=../shared/data/lfw12 \
    --natural=../shared/data/natural

Makes a folder of class folders, one for each kind of poison or of clean
pictures, runs `launch.sanitize --action=report` on it, and writes how many
of each were flagged to `results/sanitize/detection.json` and `.md`. The poison
is kept in `--work` and reused. About an hour on two cores.
"""

import csv
import pathlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags
from PIL import Image

from babam_jax import files, seeds, settings
from babam_jax.attacks import poison_set
from babam_jax.attacks.hidden_trigger import HiddenTrigger
from babam_jax.data import datasets, decoding, image_folder, processing
from babam_jax.data.image_folder import Picture
from babam_jax.evaluation.statistics import wilson_interval
from babam_jax.experiment import environment
from babam_jax.progress import say
from configs import pirm_general

_FACES = flags.DEFINE_string('faces', None, "LFW's class folders.")
_NATURAL = flags.DEFINE_string('natural', None, 'Its training pictures.')
_WORK = flags.DEFINE_string('work', 'runs/detection', 'A folder for poison.')
_PIRM = flags.DEFINE_string('pirm', None, 'A PIRM; default: the shipped one.')
_FPR = flags.DEFINE_float('fpr', 0.01, 'As in launch.sanitize.')
_RESULTS = flags.DEFINE_string('results', 'results/sanitize', 'A folder.')
_SEED = 11  # other triggers than in the PIRM's training
_SIZE = 224  # pixels a side, of the attack

Pixels = np.ndarray  # uint8 [h, w, 3], or [h, w] without colors


class Kind(NamedTuple):
  """A kind of poison.

  Attributes:
    name: the name of its folder.
    faces: 'lfw' or 'orl'.
    count: the number of pictures.
    sets: the settings of `HiddenTrigger` in which it differs.
  """

  name: str
  faces: str
  count: int
  sets: dict[str, Any]


_RESNET = {'model': 'resnet18', 'pretrained': 'none'}
_EPS16, _EPS8, _EPS34 = {'eps': 16}, {'eps': 8}, {'eps': 34}
_FC7 = {'tap': 'fc7'}
_ALIKE = {'gray': True}  # the change is the same in all channels
_PLAIN = Kind('alexnet-pool5-eps16', 'lfw', 200, _EPS16)
_GRAY = Kind('alexnet-pool5-eps16-gray', 'lfw', 100, _EPS16 | _ALIKE)
_ORL_GRAY = Kind('alexnet-pool5-eps16-gray', 'orl', 100, _EPS16 | _ALIKE)
POISON = (
  _PLAIN,
  Kind('alexnet-fc7-eps16', 'lfw', 200, _FC7 | _EPS16),
  Kind('alexnet-pool5-eps8', 'lfw', 100, _EPS8),
  Kind('alexnet-fc7-eps8', 'lfw', 100, _FC7 | _EPS8),
  Kind('alexnet-pool5-eps34', 'lfw', 100, _EPS34),
  Kind('alexnet-fc7-eps34', 'lfw', 100, _FC7 | _EPS34),
  Kind('alexnet-pool5-eps16-adam', 'lfw', 100, {'optimizer': 'adam'}),
  Kind('resnet18-layer4-eps16', 'lfw', 60, _RESNET | {'tap': 'layer4'}),
  Kind('resnet18-layer3-eps16', 'lfw', 60, _RESNET | {'tap': 'layer3'}),
  Kind('vgg16-pool5-eps16', 'lfw', 36, {'model': 'vgg16', 'iterations': 40}),
  Kind('alexnet-pool5-eps16', 'orl', 100, _EPS16),
  _GRAY,
  Kind('alexnet-fc7-eps16-gray', 'lfw', 60, _FC7 | _EPS16 | _ALIKE),
  Kind('alexnet-pool5-eps8-gray', 'lfw', 60, _EPS8 | _ALIKE),
  _ORL_GRAY,
)
_PROCESSED = (_PLAIN, _GRAY)
_NOISE = (4, 8)  # standard deviations, in gray levels


def _resized(size: int) -> Callable[[Pixels], Pixels]:
  def resize(picture: Pixels) -> Pixels:
    image = Image.fromarray(picture)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))

  return resize


def _faces(name: str, number: int | None) -> list[Picture]:
  """Pictures of a data set, a random choice in random order."""
  root = _FACES.value if name == 'lfw' else ''
  found = datasets.find_pictures(name, root, ())
  order = seeds.numpy_rng(_SEED, f'{name} pictures').permutation(len(found))
  return [found[i] for i in order[:number]]


def craft(kind: Kind) -> list[Pixels]:
  """Poison of a kind, reused if an earlier run made it."""
  folder = pathlib.Path(_WORK.value) / f'{kind.faces}-{kind.name}'
  done = folder / 'poison.npz'
  if not done.exists():
    say(f'{kind.faces} {kind.name}')
    method = settings.replace(HiddenTrigger(), kind.sets)
    chosen = _faces(kind.faces, 2 * kind.count)
    loaded = image_folder.load(
      chosen, tuple(sorted({p.class_name for p in chosen})), _SIZE, False
    ).images
    poison, _ = poison_set.craft_set(
      method.surrogate(_SEED),
      method,
      loaded[: len(loaded) // 2],
      loaded[len(loaded) // 2 :],
      trigger_size=method.trigger_size,
      seed=seeds.child_seed(_SEED, kind.name),
      scratch=folder,
    )
    files.write_arrays(done, {'images': poison.images})
  return list(files.read_arrays(done)['images'])


def _save(
  root: pathlib.Path, case: str, pictures: list[Pixels], **options
) -> None:
  """Writes pictures as a class folder: PNG, or JPEG if a `quality` is given."""
  folder = root / case
  folder.mkdir(parents=True)
  for i, picture in enumerate(pictures):
    ending = 'jpg' if options else 'png'
    Image.fromarray(picture).save(folder / f'{i:04d}.{ending}', **options)


def _copy(root: pathlib.Path, case: str, pictures: list[Picture]) -> None:
  """Copies files of a data set as they are."""
  folder = root / case
  folder.mkdir(parents=True)
  for i, picture in enumerate(pictures):
    suffix = pathlib.PurePath(picture.id).suffix or '.png'
    (folder / f'{i:04d}{suffix}').write_bytes(picture.read())


def make_poison(root: pathlib.Path) -> None:
  """A class folder for each kind of poison, and for two of them processed."""
  for kind in POISON:
    _save(root, f'poison {kind.faces} {kind.name}', craft(kind))
  for kind in _PROCESSED:
    pictures, case = craft(kind), f'poison {kind.faces} {kind.name}'
    for quality in (95, 75):
      _save(root, f'{case} jpeg{quality}', pictures, quality=quality)
    for size in (160, 1000):
      resized = [_resized(size)(picture) for picture in pictures]
      _save(root, f'{case} resized{size}', resized)
    _save(root, f'{case} without colors', _without_colors(pictures))
  case = f'poison orl {_ORL_GRAY.name}'
  _save(root, f'{case} without colors', _without_colors(craft(_ORL_GRAY)))


def _without_colors(pictures: list[Pixels]) -> list[Pixels]:
  """The pictures in gray, as files with one channel."""
  return [processing.as_gray(picture)[:, :, 0] for picture in pictures]


def _noised(pictures: list[Pixels], deviation: int, gray: bool) -> list[Pixels]:
  """Adds normal noise, like a sensor's; if `gray`, the same in all channels."""
  rng = seeds.numpy_rng(_SEED, f'noise {deviation} {gray}')

  def add(picture: Pixels) -> Pixels:
    shape = (*picture.shape[:2], 1) if gray else picture.shape
    return processing.with_noise(picture, rng.normal(0, deviation, shape))

  return [add(picture) for picture in pictures]


def make_clean(root: pathlib.Path) -> None:
  """A class folder for each kind of clean pictures."""
  natural = pathlib.Path(_NATURAL.value)
  held_out = [
    image_folder.in_file(path, path.name, 'natural')
    for prefix in pirm_general.get_config().pirm.leave_out
    for path in sorted((natural / prefix).glob('*'))
  ]
  sets = {
    'lfw': _faces('lfw', None),
    'orl': _faces('orl', None),
    'caltech101': held_out,
  }
  for name, pictures in sets.items():
    _copy(root, f'clean {name} as it is', pictures)
    decoded = [np.asarray(decoding.decode(p.read()).image) for p in pictures]
    resized = [_resized(_SIZE)(picture) for picture in decoded]
    _save(root, f'clean {name} resized{_SIZE}', resized)
    _save(root, f'clean {name} without colors', _without_colors(decoded))
    for quality in (95, 75):
      _save(root, f'clean {name} jpeg{quality}', decoded, quality=quality)
    for deviation in _NOISE:
      for gray in (False, True):
        case = f'clean {name} {"gray " if gray else ""}noise{deviation}'
        noised = _noised(decoded, deviation, gray)
        _save(root, case, noised)
        _save(root, f'{case} jpeg75', noised, quality=75)


def scores(root: pathlib.Path, page: pathlib.Path) -> dict[str, list[float]]:
  """Runs the command; the scores of the pictures, case by case."""
  line = ['-m', 'launch.sanitize', '--action=report', f'--fpr={_FPR.value}']
  line += [f'--input={root}', f'--output={page}']
  if _PIRM.value:
    line.append(f'--pirm={_PIRM.value}')
  subprocess.run([sys.executable, *line], check=True)
  found: dict[str, list[float]] = {}
  with open(page / 'scores.csv', newline='') as file:
    for row in csv.DictReader(file):
      found.setdefault(row['class'], []).append(float(row['score']))
  return found


def main(argv) -> None:
  """Makes the folder, sanitizes it, counts."""
  del argv
  results = pathlib.Path(_RESULTS.value)
  with tempfile.TemporaryDirectory() as name:
    root, page = pathlib.Path(name, 'cases'), pathlib.Path(name, 'page')
    make_poison(root)
    make_clean(root)
    found = scores(root, page)
    told = files.read_json(page / 'summary.json')['settings']
  threshold = told['threshold']
  record = {
    'threshold': threshold,
    'fpr': _FPR.value,
    'pirm_sha256': told['pirm_sha256'],
    'cases': {
      case: {
        'pictures': len(values),
        'flagged': sum(value > threshold for value in values),
        'median_score': round(float(np.median(values)), 4),
      }
      for case, values in found.items()
    },
    'environment': environment.describe(
      shlex.join(['python', '-m', 'benchmarks.detection', *sys.argv[1:]])
    ),
  }
  files.write_json(results / 'detection.json', record)
  files.write_text(results / 'detection.md', as_markdown(record))
  print(as_markdown(record))


def as_markdown(record: dict[str, Any]) -> str:
  """The record as a page with a table."""
  lines = [
    '# What the general PIRM finds in pictures that it never saw',
    '',
    f'By `{record["environment"]["command"]}`: the threshold '
    f'{record["threshold"]:.4f}, which is that of a false-positive rate of '
    f'{record["fpr"]} on the stored calibration pictures.',
    '',
    '| pictures | number | flagged | share % [95 %] | median score |',
    '|---|---|---|---|---|',
  ]
  for case, figures in record['cases'].items():
    share = figures['flagged'] / figures['pictures']
    low, high = wilson_interval(share, figures['pictures'])
    lines.append(
      f'| {case} | {figures["pictures"]} | {figures["flagged"]} | '
      f'{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}] | '
      f'{figures["median_score"]} |'
    )
  return '\n'.join([*lines, ''])


if __name__ == '__main__':
  app.run(main)
