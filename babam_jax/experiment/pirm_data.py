"""The PIRM's training data: natural pictures, some of them poisoned.

It is made chunk by chunk into files that training reads as it needs them, so
memory does not grow with it: the paper's has 200,000 pictures (4.10).
"""

import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from ml_collections import ConfigDict

from babam_jax import errors, files, seeds
from babam_jax.attack import poison_set
from babam_jax.data import image_folder
from babam_jax.data.examples import Examples
from babam_jax.data.image_folder import Picture
from babam_jax.experiment.artifacts import Artifact
from babam_jax.experiment.lab import Lab
from babam_jax.experiment.stages import build_surrogate, crafting_spec
from babam_jax.models import weights
from babam_jax.progress import say

_CLASSES = ('clean', 'poison')
_CHUNK = 960  # pictures of each kind in memory at a time
_DONE = 'done.json'

Images = UInt8[np.ndarray, 'n h w 3']


class Part(NamedTuple):
  """The training half or the pictures held out.

  Its rows are the originals of the poisoned pictures, the other clean ones,
  the poison: the original of a poison is never in the other part.

  Attributes:
    name: 'train' or 'holdout'.
    poisoned: which of the pictures to poison, by number.
    rest: which of the other clean pictures.
  """

  name: str
  poisoned: range
  rest: range

  def first_row(self, kind: str) -> int:
    """Where the rows of 'original', 'rest' or 'poison' begin."""
    before = {
      'original': 0,
      'rest': len(self.poisoned),
      'poison': len(self.poisoned) + len(self.rest),
    }
    return before[kind]

  def __len__(self) -> int:
    return 2 * len(self.poisoned) + len(self.rest)


def _parts(config: ConfigDict) -> list[Part]:
  counts = (config.num_poison, config.num_clean)
  held = [round(n * config.holdout_fraction) for n in counts]
  rest = [range(h, n) for h, n in zip(held, counts, strict=True)]
  return [Part('holdout', *map(range, held)), Part('train', *rest)]


class Chosen(NamedTuple):
  """The pictures that are used, and which of them become grey."""

  poisoned: list[Picture]
  sources: list[Picture]
  rest: list[Picture]
  grey: dict[str, bool]


def choose(config: ConfigDict, seed: int) -> Chosen:
  """Chooses pictures at random below `config.root`.

  Raises:
    UserError: there are too few.
  """
  root = pathlib.Path(config.root)
  ids = image_folder.find_images(root, 'config.pirm.root')
  needed = 2 * config.num_poison + config.num_clean
  if len(ids) < needed:
    raise errors.UserError(
      f'config.pirm.root: {len(ids)} images below {config.root!r}; expected '
      f'{needed}: two for each of config.pirm.num_poison and one for each of '
      'config.pirm.num_clean. Lower one of them.'
    )
  order = seeds.numpy_rng(seed, 'natural pictures').permutation(len(ids))
  names = [ids[i] for i in order[:needed]]
  pictures = [image_folder.in_file(root / i, i, 'clean') for i in names]
  # Many face data sets are grey.
  draws = seeds.numpy_rng(seed, 'grey').random(needed)
  grey = dict(zip(names, draws < config.grey_fraction, strict=True))
  count = config.num_poison
  return Chosen(
    pictures[:count], pictures[count : 2 * count], pictures[2 * count :], grey
  )


def _load(pictures: list[Picture], chosen: Chosen, size: int) -> Images:
  loaded = image_folder.load(pictures, _CLASSES, size, skip_unreadable=False)
  grey = np.array([chosen.grey[picture.id] for picture in pictures])
  return _some_grey(loaded.images, grey)


def _some_grey(images: Images, grey: Bool[np.ndarray, ' n']) -> Images:
  luma = images[grey] @ np.array([0.299, 0.587, 0.114])
  images = images.copy()
  images[grey] = np.rint(luma)[..., None].astype(np.uint8)
  return images


def _chunks(count: int) -> Iterator[range]:
  for start in range(0, count, _CHUNK):
    yield range(start, min(start + _CHUNK, count))


class _Writer:
  """The images of all parts, as files in a folder that survives a kill."""

  def __init__(self, folder: pathlib.Path, parts: list[Part], size: int):
    self._folder = folder
    self._parts = parts
    there = (folder / _DONE).exists()
    self._arrays = {
      part.name: np.lib.format.open_memmap(
        folder / _file(part.name),
        'r+' if there else 'w+',
        np.uint8,
        (len(part), size, size, 3),
      )
      for part in parts
    }
    if not there:
      for part in parts:
        _reserve(folder / _file(part.name))
      files.write_json(folder / _DONE, 0)

  @property
  def done(self) -> int:
    """How many chunks have been written."""
    return files.read_json(self._folder / _DONE)

  def put(self, kind: str, chunk: range, images: Images) -> None:
    """Writes the images of a chunk to where they belong."""
    for part in self._parts:
      members = part.rest if kind == 'rest' else part.poisoned
      here = range(
        max(members.start, chunk.start), min(members.stop, chunk.stop)
      )
      if here:
        row = part.first_row(kind) + here.start - members.start
        self._arrays[part.name][row : row + len(here)] = images[
          here.start - chunk.start : here.stop - chunk.start
        ]

  def finish_chunk(self) -> None:
    """What has been put is safe from here on."""
    for array in self._arrays.values():
      array.flush()
    files.write_json(self._folder / _DONE, self.done + 1)

  def hand_over(self, output: pathlib.Path) -> None:
    """Gives the files another name in `output`; here they stay until that is
    whole."""
    for name in self._arrays:
      try:
        os.link(self._folder / _file(name), output / _file(name))
      except OSError:  # a file system without hard links
        shutil.copyfile(self._folder / _file(name), output / _file(name))


def _reserve(path: pathlib.Path) -> None:
  """Takes the disk space now: a full disk would kill a mapped write."""
  with open(path, 'r+b') as file:
    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    os.fsync(file.fileno())


def _file(part: str) -> str:
  return f'{part}_images.npy'


def make(lab: Lab) -> Artifact:
  """Stage: natural pictures, some of them poisoned, in two parts.

  Clean and poisoned pictures go through the same decoding and resizing.
  """
  config, seed, size = lab.config.pirm, lab.config.seed, lab.config.data.size
  chosen = choose(config, seed)
  parts = _parts(config)

  def compute(output: pathlib.Path, scratch: pathlib.Path) -> None:
    writer = _Writer(scratch, parts, size)
    surrogate = build_surrogate(config.poison, seed)
    poisoned_chunks = list(_chunks(len(chosen.poisoned)))
    work = [
      *(('poison', chunk) for chunk in poisoned_chunks),
      *(('rest', chunk) for chunk in _chunks(len(chosen.rest))),
    ]
    for number, (kind, chunk) in list(enumerate(work))[writer.done :]:
      say(f'pictures for the PIRM: chunk {number + 1} of {len(work)}')
      here = slice(chunk.start, chunk.stop)
      if kind == 'rest':
        writer.put('rest', chunk, _load(chosen.rest[here], chosen, size))
      else:
        targets = _load(chosen.poisoned[here], chosen, size)
        folder = scratch / f'chunk{number:04d}'
        folder.mkdir(exist_ok=True)
        poison, _ = poison_set.craft_set(
          surrogate,
          crafting_spec(config.poison),
          targets,
          _load(chosen.sources[here], chosen, size),
          trigger_size=config.poison.trigger_size,
          # The defender does not know the attacker's trigger: one a chunk.
          seed=seeds.child_seed(seed, f'PIRM poison{number or ""}'),
          scratch=folder,
        )
        writer.put('original', chunk, targets)
        writer.put('poison', chunk, poison.images)
      writer.finish_chunk()
      shutil.rmtree(scratch / f'chunk{number:04d}', ignore_errors=True)
    for part in parts:
      files.write_arrays(output / f'{part.name}.npz', _names(part, chosen))
    writer.hand_over(output)

  fields = ('num_poison', 'num_clean', 'grey_fraction', 'holdout_fraction')
  depends = {
    'config': {name: config[name] for name in fields}
    | {'poison': config.poison.to_dict()},
    'weights': weights.fingerprint(
      config.poison.model, config.poison.pretrained, 'config.pirm.poison'
    ),
    'size': size,
    'seed': seed,
    'fingerprint': image_folder.fingerprint(
      [*chosen.poisoned, *chosen.sources, *chosen.rest]
    ),
  }
  return lab.store.stage('pirm_data', 5, depends, [], compute)


def _names(part: Part, chosen: Chosen) -> dict[str, Any]:
  """Ids and ground truth of a part, row by row."""
  originals = [chosen.poisoned[i].id for i in part.poisoned]
  rest = [chosen.rest[i].id for i in part.rest]
  poisoned = np.arange(len(part)) >= part.first_row('poison')
  ids = originals + rest + [f'poison/{name}' for name in originals]
  return {'ids': np.array(ids, np.str_), 'poisoned': poisoned}


def read(artifact: Artifact, part: str) -> Examples:
  """A part of what `make` made; its images stay on disk until they are used."""
  arrays = artifact.arrays(part)
  return Examples(
    images=np.load(artifact.folder / _file(part), mmap_mode='r'),
    labels=arrays['poisoned'].astype(np.int32),
    ids=arrays['ids'],
    class_names=_CLASSES,
    poisoned=arrays['poisoned'],
  )
