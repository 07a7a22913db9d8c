"""The PIRM's training data: natural pictures, some of them poisoned.

It is written chunk by chunk to files that training reads as it needs them, so
memory does not grow with it: the paper's data has 200,000 pictures (4.10).
"""

import concurrent.futures
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from babam_jax import cpu, files, seeds, settings
from babam_jax.attacks import poison_set
from babam_jax.config.schema import Experiment
from babam_jax.data import processing
from babam_jax.data.examples import Examples
from babam_jax.defenses.pirm_recipe import PirmSettings, label, poison_of_kind
from babam_jax.pirm_training import natural_pictures
from babam_jax.pirm_training.natural_pictures import CLASSES, Chosen, Images
from babam_jax.pirm_training.transplant import transplant
from babam_jax.progress import say
from babam_jax.store import row_files
from babam_jax.store.artifacts import Artifact
from babam_jax.store.lab import Lab
from babam_jax.store.row_files import RowFiles
from babam_jax.store.stage import Stage

_POISON = 'poison/'  # before the id of the original
_CHUNK = 960  # pictures of each kind in memory at a time


def _chunks(count: int) -> Iterator[range]:
  for start in range(0, count, _CHUNK):
    yield range(start, min(start + _CHUNK, count))


# --- Poison ---


# The kind of poison is among the facts: a further kind changes no other key.
POISON = Stage(
  'pirm_poison', 3, ('-pirm.poison', '-pirm.kinds', 'data.size', 'seed')
)


def _craft_kind(lab: Lab, chosen: Chosen, number: int) -> Artifact:
  """Stage: poison of one kind.

  The kinds take turns: of three kinds, the first one poisons the pictures 0,
  3, 6 and so on of those that are to be poisoned.
  """
  every = len(lab.experiment.pirm.kinds)
  targets = chosen.poisoned[number::every]
  sources = chosen.sources[number::every]
  of_kind = f' of kind {number}' if number else ''

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    method, seed = poison_of_kind(experiment.pirm, number), experiment.seed
    rows = RowFiles(scratch, {'poison': len(targets)}, chosen.size)
    surrogate = method.surrogate(seed)
    chunks = list(_chunks(len(targets)))
    for n, chunk in list(enumerate(chunks))[rows.done :]:
      say(f'poison for the PIRM: chunk {n + 1} of {len(chunks)}')
      here = slice(chunk.start, chunk.stop)
      folder = scratch / f'chunk{n:04d}'
      folder.mkdir(exist_ok=True)
      # The defender does not know the attacker's trigger: one for each chunk.
      own = seeds.child_seed(seed, f'PIRM poison{n or ""}' + of_kind)
      poison, _ = poison_set.craft_set(
        surrogate,
        method,
        chosen.load(targets[here]),
        chosen.load(sources[here]),
        patch=method.make_patch(own),
        seed=own,
        scratch=folder,
        evasion=method.evasion(seed),
      )
      rows.arrays['poison'][here] = poison.images
      rows.finish_step()
      shutil.rmtree(folder)
    rows.hand_over(output)

  kind = poison_of_kind(lab.experiment.pirm, number)
  facts = kind.facts('config.pirm.poison') | {
    'kind': [kind.version, settings.as_dict(kind)],
    'number': number,
  }
  facts |= chosen.facts([*targets, *sources])
  return lab.make(POISON, compute, facts=facts)


# --- Training data ---


class Part(NamedTuple):
  """The pictures for training or those held out.

  Its rows are the originals of the poisoned pictures, the other clean ones,
  the poison; each picture has as many rows as there are copies of it. The
  original of a poison is never in the other part. Hosts, whose poison is
  transplanted, come last among the poisoned, and are for training.

  Attributes:
    name: 'train' or 'holdout'.
    poisoned: numbers of its pictures among those to be poisoned.
    rest: numbers of its pictures among the other clean ones.
    copies: rows for each picture.
  """

  name: str
  poisoned: range
  rest: range
  copies: int

  def rows(self, kind: str, number: int) -> slice | None:
    """The rows of a picture; None if it belongs to the other part.

    Args:
      kind: 'original', 'rest' or 'poison'.
      number: its number among those to be poisoned, or the rest.
    """
    members = self.rest if kind == 'rest' else self.poisoned
    if number not in members:
      return None
    before = {
      'original': 0,
      'rest': len(self.poisoned),
      'poison': len(self.poisoned) + len(self.rest),
    }
    first = (before[kind] + number - members.start) * self.copies
    return slice(first, first + self.copies)

  def __len__(self) -> int:
    return (2 * len(self.poisoned) + len(self.rest)) * self.copies


def _parts(config: PirmSettings) -> list[Part]:
  counts = (config.num_poison, config.num_clean)
  held = [round(n * config.holdout_fraction) for n in counts]
  copies = max(1, config.processed_copies)
  poisoned = range(held[0], config.num_poison + config.num_hosts)
  return [
    Part('holdout', *map(range, held), copies),
    Part('train', poisoned, range(held[1], config.num_clean), copies),
  ]


PICTURES = Stage(
  'pirm_data',
  10,
  (
    'pirm.poison',
    'pirm.kinds',
    'pirm.num_poison',
    'pirm.num_hosts',
    'pirm.num_clean',
    'pirm.gray_fraction',
    'pirm.holdout_fraction',
    'pirm.processed_copies',
    'data.size',
    'seed',
  ),
  after=lambda experiment: (POISON,),
  chooses=(
    'pirm.root',
    'pirm.more_roots',
    'pirm.native',
    'pirm.leave_out',
    'pirm.textured_fraction',
  ),
)


def make(lab: Lab) -> Artifact:
  """Stage: natural pictures, some of them poisoned, in two parts.

  Clean and poisoned pictures go through the same decoding, resizing and
  processing.
  """
  experiment = lab.experiment
  config, seed, size = experiment.pirm, experiment.seed, experiment.data.size
  chosen = natural_pictures.choose(config, size, seed)
  parts = _parts(config)
  donors = range(parts[1].poisoned.start, config.num_poison)
  poison = [_craft_kind(lab, chosen, n) for n in range(len(config.kinds))]

  def compute(
    experiment: Experiment, output: pathlib.Path, scratch: pathlib.Path
  ) -> None:
    copies, seed = experiment.pirm.processed_copies, experiment.seed
    size = experiment.data.size
    rows = RowFiles(
      scratch, {_images(part.name): len(part) for part in parts}, size
    )
    pictures = {
      'original': chosen.changed,
      'rest': chosen.rest,
      'poison': chosen.changed,
    }
    crafted = [row_files.read(artifact.folder, 'poison') for artifact in poison]
    work = [
      (kind, chunk)
      for kind, members in pictures.items()
      for chunk in _chunks(len(members))
    ]
    for kind, chunk in work[rows.done :]:
      members = pictures[kind][chunk.start : chunk.stop]
      if kind == 'poison':
        images = _poison(chosen, chunk, crafted, donors, seed)
      else:
        images = chosen.load(members)
      names = (picture.id for picture in members)
      with concurrent.futures.ThreadPoolExecutor(cpu.cores()) as pool:
        made = pool.map(
          lambda image, name: _copies(image, name, copies, seed), images, names
        )
        for number, images_of_one in zip(chunk, made, strict=True):
          for part in parts:
            where = part.rows(kind, number)
            if where is not None:
              rows.arrays[_images(part.name)][where] = images_of_one
      rows.finish_step()
    for part in parts:
      files.write_arrays(output / f'{part.name}.npz', _names(part, chosen))
    rows.hand_over(output)

  used = (*chosen.poisoned, *chosen.sources, *chosen.hosts, *chosen.rest)
  facts = chosen.facts(list(used))
  return lab.make(PICTURES, compute, inputs=poison, facts=facts)


def _poison(
  chosen: Chosen,
  numbers: range,
  crafted: list[Images],
  donors: range,
  seed: int,
) -> list[processing.Picture]:
  """The poison of some of the poisoned pictures and, after these, the hosts.

  Args:
    chosen: all pictures.
    numbers: which of them, in order.
    crafted: poison of each kind.
    donors: the poisoned pictures whose changes hosts get.
    seed: the seed of the run.
  """

  def made(number: int) -> processing.Picture:
    return crafted[number % len(crafted)][number // len(crafted)]

  count = len(chosen.poisoned)
  own = [made(number) for number in numbers if number < count]
  hosts = [chosen.hosts[n - count] for n in numbers if n >= count]
  if not hosts:
    return own
  rngs = [seeds.numpy_rng(seed, f'{host.id} donor') for host in hosts]
  donor_of = [int(rng.integers(donors.start, donors.stop)) for rng in rngs]
  used = sorted(set(donor_of))
  originals = chosen.load([chosen.poisoned[donor] for donor in used])
  before = dict(zip(used, originals, strict=True))
  return own + [
    transplant(host, made(donor), before[donor], rng)
    for host, donor, rng in zip(chosen.load(hosts), donor_of, rngs, strict=True)
  ]


def _images(part: str) -> str:
  return f'{part}_images'


def _copies(
  image: processing.Picture, name: str, count: int, seed: int
) -> Images:
  """A picture as it is, or copies processed in several ways. A poison has its
  original's name, so both are processed in the same ways."""
  if not count:
    return image[None]
  return np.stack(
    [processing.process(image, _history(name, n, seed)) for n in range(count)]
  )


def _history(name: str, number: int, seed: int) -> np.random.Generator:
  return seeds.numpy_rng(seed, f'{name} processed {number}')


def _names(part: Part, chosen: Chosen) -> dict[str, Any]:
  """Ids and ground truth of a part, row by row, and which of its pictures are
  enlarged."""
  changed = chosen.changed
  targets = [changed[i] for i in part.poisoned]
  others = [chosen.rest[i] for i in part.rest]
  originals = [picture.id for picture in targets]
  rest = [picture.id for picture in others]
  names = originals + rest + [_POISON + name for name in originals]
  small = natural_pictures.enlarged([*targets, *others, *targets], chosen.size)
  poisoned = np.arange(len(names)) >= len(originals) + len(rest)
  if part.copies > 1:
    names = [f'{name}#{n}' for name in names for n in range(part.copies)]
  return {
    'ids': np.array(names, np.str_),
    'poisoned': np.repeat(poisoned, part.copies),
    'enlarged': np.repeat(small, part.copies),
  }


def pairs(poisoned: Bool[np.ndarray, ' n']) -> Int[np.ndarray, 'u 2']:
  """Pairs of rows of a part: a poison and its original.

  The two differ in nothing but the poison. The other clean pictures are paired
  with each other; if their number is odd, the first one is used twice.

  Args:
    poisoned: the ground truth of the part.
  """
  count = int(poisoned.sum())
  rows = np.arange(len(poisoned))
  rest = rows[count : len(rows) - count]
  rest = np.resize(rest, len(rest) + len(rest) % 2)
  beside = np.stack([rows[:count], rows[len(rows) - count :]], axis=1)
  return np.concatenate([beside, rest.reshape(-1, 2)])


def half(examples: Examples, seed: int) -> Bool[np.ndarray, ' n']:
  """Half of the pictures of a part, and half of those that are poisoned, at
  random; all copies of a picture, poisoned and not, are in the same half."""
  originals = [original(str(name)) for name in examples.ids]
  poisoned = dict.fromkeys(
    name for name, bad in zip(originals, examples.poisoned, strict=True) if bad
  )
  rest = [name for name in dict.fromkeys(originals) if name not in poisoned]
  rng = seeds.numpy_rng(seed, 'calibration half')
  chosen = {
    name
    for names in (list(poisoned), rest)
    for name in rng.permutation(names)[: (len(names) + 1) // 2]
  }
  return np.array([name in chosen for name in originals], bool)


def kinds(config: PirmSettings, poisoned: Bool[np.ndarray, ' n']) -> list[str]:
  """The kind, of `config.kinds`, of each poison held out, in order.

  Args:
    config: how the PIRM is trained.
    poisoned: the ground truth of the part.
  """
  copies = max(1, config.processed_copies)
  numbers = np.arange(poisoned.sum()) // copies % len(config.kinds)
  return [label(config.kinds[number]) for number in numbers]


def original(name: str) -> str:
  """The id of the picture from which a row of a part was made."""
  name = name.removeprefix(_POISON)
  before, mark, _ = name.rpartition('#')
  return before if mark else name


def enlarged(artifact: Artifact, part: str) -> Bool[np.ndarray, ' n']:
  """Which rows of a part were too small, and so were enlarged."""
  return artifact.arrays(part)['enlarged']


def read(artifact: Artifact, part: str) -> Examples:
  """A part of what `make` made; its images stay on disk until they are used."""
  arrays = artifact.arrays(part)
  return Examples(
    images=row_files.read(artifact.folder, _images(part)),
    labels=arrays['poisoned'].astype(np.int32),
    ids=arrays['ids'],
    class_names=CLASSES,
    poisoned=arrays['poisoned'],
  )
