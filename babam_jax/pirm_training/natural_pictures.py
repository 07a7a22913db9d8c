"""Which natural pictures the PIRM learns from, and how they are read."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from babam_jax import errors, files, seeds
from babam_jax.data import decoding, image_folder, origins, processing
from babam_jax.data.image_folder import Picture
from babam_jax.defenses.pirm_recipe import PirmSettings

CLASSES = ('clean', 'poison')
Images = UInt8[np.ndarray, 'n s s 3']


@dataclasses.dataclass(frozen=True)
class Chosen:
  """The pictures that are used, and how to read them.

  Attributes:
    poisoned: the pictures to be poisoned.
    sources: the pictures that poison collides with.
    hosts: further pictures, which get the changes of poison.
    rest: other clean pictures.
    gray: whether a picture becomes gray, by id.
    textured: whether a picture gets the look of another origin, by id.
    size: pixels a side.
    seed: the seed of the run.
    native: whether pictures are crops at native resolution.
  """

  poisoned: list[Picture]
  sources: list[Picture]
  hosts: list[Picture]
  rest: list[Picture]
  gray: dict[str, bool]
  textured: dict[str, bool]
  size: int
  seed: int
  native: bool

  @property
  def changed(self) -> list[Picture]:
    """The pictures of which there is poison: the poisoned, then the hosts."""
    return [*self.poisoned, *self.hosts]

  def load(self, pictures: list[Picture]) -> Images:
    """Reads some of the pictures."""
    loaded = image_folder.load(
      pictures,
      CLASSES,
      self.size,
      skip_unreadable=None,
      crop_seed=seeds.child_seed(self.seed, 'crops') if self.native else None,
    )
    images = loaded.images.copy()
    for i, picture in enumerate(pictures):
      if self.textured[picture.id]:
        rng = seeds.numpy_rng(self.seed, f'{picture.id} origin')
        images[i] = origins.process(images[i], rng)
      if self.gray[picture.id]:
        images[i] = processing.as_gray(images[i])
    return images

  def facts(self, pictures: list[Picture]) -> dict[str, Any]:
    """What the images of some of the pictures depend on."""
    return {
      'gray': [self.gray[picture.id] for picture in pictures],
      'textured': [self.textured[picture.id] for picture in pictures],
      'native': self.native,
      'fingerprint': image_folder.fingerprint(pictures),
    }


def choose(config: PirmSettings, size: int, seed: int) -> Chosen:
  """Chooses pictures at random below the folders of `config`.

  Args:
    config: how the PIRM is trained.
    size: pixels a side.
    seed: the seed of the run.

  Raises:
    UserError: there are too few pictures.
  """
  found = find(config)
  if config.native:
    drawn = _crops(config, found, size, seed)
  else:
    drawn = _whole(config, found, seed)
  pictures = list(itertools.chain.from_iterable(drawn))

  def happens(name: str, share: float) -> dict[str, bool]:
    draws = seeds.numpy_rng(seed, name).random(len(pictures)) < share
    ids = (picture.id for picture in pictures)
    return dict(zip(ids, draws.tolist(), strict=True))

  return Chosen(
    *drawn,
    happens('grey', config.gray_fraction),  # many face data sets are gray
    happens('origins', config.textured_fraction),
    size,
    seed,
    config.native,
  )


def find(config: PirmSettings) -> list[Picture]:
  """All pictures below the folders; several folders precede the ids.

  Raises:
    UserError: a folder is missing or empty, or two have the same name.
  """
  roots = [files.named(name) for name in (config.root, *config.more_roots)]
  if len({root.name for root in roots}) < len(roots):
    raise errors.UserError(
      f'config.pirm.more_roots: found {config.more_roots}, expected folders '
      'with other names than each other and config.pirm.root. Rename one.'
    )
  pictures = []
  for number, root in enumerate(roots):
    field = 'config.pirm.' + ('more_roots' if number else 'root')
    before = f'{root.name}/' if config.more_roots else ''
    pictures += [
      image_folder.in_file(root / path, before + path, CLASSES[0])
      for path in image_folder.find_images(root, field)
      if not path.startswith(tuple(config.leave_out))
    ]
  return pictures


class _Drawn(NamedTuple):
  """The pictures of `Chosen`."""

  poisoned: list[Picture]
  sources: list[Picture]
  hosts: list[Picture]
  rest: list[Picture]


def _whole(config: PirmSettings, found: list[Picture], seed: int) -> _Drawn:
  """Each picture once, as a whole."""
  count, hosts = config.num_poison, config.num_hosts
  needed = 2 * count + hosts + config.num_clean
  if len(found) < needed:
    raise errors.UserError(
      f'config.pirm.root: {len(found)} images below {config.root!r}; expected '
      f'{needed}: two for each of config.pirm.num_poison and one for each of '
      'config.pirm.num_hosts and config.pirm.num_clean. Lower one of them.'
    )
  order = seeds.numpy_rng(seed, 'natural pictures').permutation(len(found))
  chosen = [found[i] for i in order[:needed]]
  return _Drawn(
    chosen[:count],
    chosen[count : 2 * count],
    chosen[needed - hosts :],
    chosen[2 * count : needed - hosts],
  )


def _crops(
  config: PirmSettings, found: list[Picture], size: int, seed: int
) -> _Drawn:
  """Crops, several of a large picture.

  Those held out come first, and are of other pictures (`held_out`). Poison is
  made of pictures at native resolution; of smaller ones are the sources, which
  the PIRM never sees, and some of the clean ones.
  """
  kept = held_out(found, seed)
  uses = {picture.id: _uses(picture, size) for picture in found}
  small = [picture for picture in found if not uses[picture.id]]
  poisoned, hosts, rest = [], [], []
  for part in (True, False):
    of_part = [p for p in found if kept[p.id] == part]
    large = [p for p in of_part for _ in range(uses[p.id])]
    if not large:
      raise errors.UserError(
        f'config.pirm.root: no two pictures of one folder in {config.root!r} '
        f'have {size} pixels a side; expected some, of which half are held '
        'out. Lower config.data.size, or set config.pirm.native=False.'
      )
    enlarged = [p for p in of_part if not uses[p.id]]
    enlarged = enlarged[:: 1 + len(enlarged) // (1 + len(large) // 4)]
    for wanted, where, members in (
      (config.num_poison, poisoned, large),
      (config.num_clean, rest, large + enlarged),
    ):
      count = round(wanted * config.holdout_fraction)
      count = count if part else wanted - count
      where += _drawn(members, count, f'crops {len(where)} {part}', seed)
    if not part:
      hosts = _drawn(large, config.num_hosts, 'hosts', seed)
  sources = _drawn(small or found, config.num_poison, 'sources', seed)
  names = itertools.count()

  def numbered(pictures: list[Picture]) -> list[Picture]:
    return [
      dataclasses.replace(p, id=f'{p.id}@{next(names)}') for p in pictures
    ]

  # Hosts come last: their number changes nobody's crop.
  poisoned, sources, rest = map(numbered, (poisoned, sources, rest))
  return _Drawn(poisoned, sources, numbered(hosts), rest)


def _drawn(
  members: list[Picture], count: int, stream: str, seed: int
) -> list[Picture]:
  """Some of the pictures in random order; if they are too few, all of them
  again and again."""
  rng = seeds.numpy_rng(seed, stream)
  times = max(1, -(-count // len(members)))
  order = np.concatenate([rng.permutation(len(members)) for _ in range(times)])
  return [members[i] for i in order[:count]]


def _uses(picture: Picture, size: int) -> int:
  """How often a picture is cropped in one pass, for its area; 0: too small."""
  width, height = _width_and_height(picture)
  if min(width, height) < size:
    return 0
  return max(1, width * height // (4 * size**2))


def held_out(found: list[Picture], seed: int) -> dict[str, bool]:
  """Whether a picture is held out, by id: half of each folder's are.

  Folders of as many pictures hold out the same numbers, so that two pictures of
  one scene in two folders stay together.

  Args:
    found: pictures, in the order of their names.
    seed: the seed of the run.
  """
  folders: dict[str, list[str]] = {}
  for picture in found:
    folders.setdefault(picture.id.rpartition('/')[0], []).append(picture.id)
  kept = {}
  for names in folders.values():
    order = seeds.numpy_rng(seed, 'held out').permutation(len(names))
    for name, place in zip(names, order.tolist(), strict=True):
      kept[name] = place < len(names) // 2
  return kept


def enlarged(pictures: list[Picture], size: int) -> Bool[np.ndarray, ' n']:
  """Which pictures are too small for `size`, and so are enlarged to it."""
  shorter = [min(_width_and_height(picture)) for picture in pictures]
  return np.array(shorter) < size


def _width_and_height(picture: Picture) -> tuple[int, int]:
  """In pixels; 0 if it is unreadable (`load` reports it)."""
  try:
    found = decoding.header(picture.read())
  except (decoding.UnreadableError, OSError):
    return 0, 0
  return found.width, found.height
