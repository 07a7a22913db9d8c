"""The whole circle: poison a training set, write it as a folder of pictures,
sanitize this with the command, train on its output.

  python -m benchmarks.circle --config=configs/lfw_multiclass.py \
    --config.data.root=../shared/data/lfw12

`launch.sanitize` knows nothing of the experiment. The results are in
`results/sanitize/circle.json` and `.md`. About half an hour on two cores.
"""

import dataclasses
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from babam_jax import files
from babam_jax.cli import command
from babam_jax.config import rules
from babam_jax.data import decoding
from babam_jax.data.examples import Examples
from babam_jax.defenses import pirm
from babam_jax.evaluation import metrics
from babam_jax.experiment import (
  environment,
  face_data,
  features,
  judging,
  poisoning,
  recognizing,
)
from babam_jax.store import artifacts, lab
from babam_jax.store.lab import Dataset, Lab, Source, join

_SANITIZED = dataclasses.replace(recognizing.MALICIOUS, name='model/protected')
_RESULTS = flags.DEFINE_string('results', 'results/sanitize', 'A folder.')


def _place(examples: Examples, row: int) -> pathlib.PurePath:
  """The path of a picture in the folder, which does not reveal poison."""
  name = examples.class_names[examples.labels[row]]
  return pathlib.PurePath(name, f'{row:05d}.png')


def _write(examples: Examples, root: pathlib.Path) -> None:
  for row, picture in enumerate(examples.images):
    path = root / _place(examples, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def _read(examples: Examples, root: pathlib.Path) -> np.ndarray:
  paths = [root / _place(examples, row) for row in range(len(examples))]
  return np.stack(
    [np.asarray(decoding.decode(path.read_bytes()).image) for path in paths]
  )


def through_the_command(laboratory: Lab, untrusted: Dataset) -> Dataset:
  """Stage: the training set after `launch.sanitize`."""

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    examples = untrusted.examples
    with tempfile.TemporaryDirectory() as name:
      source, sanitized = pathlib.Path(name, 'in'), pathlib.Path(name, 'out')
      _write(examples, source)
      line = ['launch.sanitize', f'--input={source}', f'--output={sanitized}']
      line.append('--action=perturb')
      subprocess.run([sys.executable, '-m', *line], check=True)
      images = _read(examples, sanitized)
    changed = (images != examples.images).any((1, 2, 3))
    files.write_json(
      output / 'flagged.json',
      {
        'poison': int(examples.poisoned.sum()),
        'poison_changed': int((changed & examples.poisoned).sum()),
        'clean': int((~examples.poisoned).sum()),
        'clean_changed': int((changed & ~examples.poisoned).sum()),
      },
    )
    kept = dataclasses.replace(examples, images=images)
    lab.write_examples(output, 'sanitized', kept)

  depends = {
    'pirm': pirm.fingerprint(pirm.SHIPPED['general']),
    'pictures': len(untrusted.examples),
  }
  artifact = laboratory.store.stage(
    'circle', 1, depends, untrusted.inputs, compute
  )
  source = Source(artifact, 'sanitized')
  return Dataset(lab.read_examples(source), (source,))


def as_markdown(record: dict[str, Any]) -> str:
  """The record as a page with a table."""
  flagged = record['flagged']
  lines = [
    '# The whole circle',
    '',
    f'By `{record["environment"]["command"]}`: the poisoned training set '
    'written as a folder, sanitized with `python -m launch.sanitize`, trained '
    'on.',
    '',
    f'{flagged["poison_changed"]} of {flagged["poison"]} poisons and '
    f'{flagged["clean_changed"]} of {flagged["clean"]} clean pictures received '
    'noise.',
    '',
    '| model | accuracy % | ASR % | no-patch base % |',
    '|---|---|---|---|',
  ]
  for name, found in record['models'].items():
    rates = [found[key] for key in ('accuracy', 'asr', 'asr_unpatched')]
    shown = ' | '.join(f'{100 * rate:.1f}' for rate in rates)
    lines.append(f'| {name} | {shown} |')
  drop = f'Accuracy drop: {100 * record["accuracy_drop"]:.1f} points.'
  return '\n'.join([*lines, '', drop, ''])


def main(config, workdir: pathlib.Path, root: pathlib.Path) -> None:
  """Poisons, writes, sanitizes, trains, judges."""
  laboratory = Lab(rules.check(config), artifacts.Store(root), workdir)
  data = face_data.load(laboratory)
  poison = poisoning.craft(laboratory, data)
  untrusted = join(data.train, poison)
  sanitized = through_the_command(laboratory, untrusted)
  shown = poisoning.show(laboratory, data, poison)
  stored = features.StoredInputs(laboratory)
  training_sets = {
    recognizing.CLEAN: data.train,
    recognizing.MALICIOUS: untrusted,
    _SANITIZED: sanitized,
  }
  stored.add(data.test, shown, *training_sets.values())
  models = {
    stage.name.partition('/')[2]: recognizing.train(
      laboratory, stored, stage, dataset, data
    )
    for stage, dataset in training_sets.items()
  }
  judged = judging.judge_all(models, data, shown)
  record = {
    'models': judged,
    'accuracy_drop': metrics.accuracy_drop(judged),
    'flagged': sanitized.sources[0].artifact.json('flagged'),
    'environment': environment.describe(
      command.repeat_line('python -m benchmarks.circle')
    ),
  }
  results = pathlib.Path(_RESULTS.value)
  files.write_json(results / 'circle.json', record)
  files.write_text(results / 'circle.md', as_markdown(record))
  print(as_markdown(record))


if __name__ == '__main__':
  command.run(main)
