"""Pictures that no shipped PIRM has learned from: clean ones, and poison."""

import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from babam_jax import files, seeds, settings
from babam_jax.attacks import poison_set, trigger
from babam_jax.attacks.hidden_trigger import HiddenTrigger
from babam_jax.config import rules
from babam_jax.data import datasets, decoding, image_folder, processing
from babam_jax.data.image_folder import Picture
from babam_jax.defenses import any_size, pirm
from babam_jax.pirm_training import natural_pictures
from babam_jax.progress import say
from configs import lfw_faces, pirm_general

SEED = 11  # other triggers and random networks than in training
_PER_CLASS = 20
_BATCH = 16
_LARGEST = 224  # pixels a side, of the attack

Pixels = UInt8[np.ndarray, 'h w 3']


class Domain(NamedTuple):
  """A set of pictures.

  Attributes:
    name: its name.
    find: from the folder with all data to its pictures.
  """

  name: str
  find: Callable[[pathlib.Path], list[Picture]]


def _folders(path: str) -> Callable[[pathlib.Path], list[Picture]]:
  return lambda data: image_folder.class_folders(data / path, 'data')


def _held_out(before: str) -> Callable[[pathlib.Path], list[Picture]]:
  """Pictures whose like the PIRM has learned from, but not these."""

  def find(data: pathlib.Path) -> list[Picture]:
    config = pirm_general.get_config(data)
    found = natural_pictures.find(rules.check(config).pirm)
    kept = natural_pictures.held_out(found, config.seed)
    return [p for p in found if p.id.startswith(before) and kept[p.id]]

  return find


def _faces150(data: pathlib.Path) -> list[Picture]:
  """LFW, cut and resized as dlib's network takes it."""
  return [
    dataclasses.replace(picture, read=functools.partial(_cut, picture))
    for picture in datasets.find_pictures('lfw', data / 'lfw12')
  ]


def _cut(picture: Picture) -> bytes:
  image = decoding.decode(picture.read()).image
  box = np.multiply(lfw_faces.box('dlib_resnet'), 2 * image.size)
  left, top, width, height = box.tolist()
  side = lfw_faces.SIZES['dlib_resnet']
  resized = image.resize(
    (side, side),
    Image.Resampling.BILINEAR,
    box=(left, top, left + width, top + height),
  )
  file = io.BytesIO()
  resized.save(file, 'PNG')
  return file.getvalue()


DOMAINS = {
  domain.name: domain
  for domain in (
    Domain('lfw', lambda data: datasets.find_pictures('lfw', data / 'lfw12')),
    Domain('orl', lambda data: datasets.find_pictures('orl', '')),
    Domain('faces112', _folders('faces/aligned112')),
    Domain('faces150', _faces150),
    Domain('portraits', _folders('faces/large')),
    Domain('fingerprints', _folders('biometrics/fingerprint')),
    Domain('irises', _folders('biometrics/iris')),
    Domain('palms', _folders('biometrics/palm')),
    Domain('veins', _folders('biometrics/vein')),
    Domain('caltech101', _held_out('natural/caltech101/')),
    Domain('textures', _held_out('natural_more/bsds500/')),
    Domain('cameras', _held_out('camera_noise/mean/')),
    Domain('noisy cameras', _held_out('camera_noise/noisy/')),
  )
}


def choose(
  domain: str, data: pathlib.Path, count: int | None = None
) -> list[Picture]:
  """Pictures of a domain, a random choice in random order."""
  found = DOMAINS[domain].find(data)
  order = seeds.numpy_rng(SEED, f'{domain} pictures').permutation(len(found))
  return [found[i] for i in order[:count]]


def choose_classes(
  domain: str,
  data: pathlib.Path,
  count: int,
  per_class: int | None = _PER_CLASS,
) -> list[Picture]:
  """Classes of a domain in random order, up to 20 pictures of each, until there
  are `count` pictures or more.

  Args:
    domain: one of `DOMAINS`.
    data: the folder with all data.
    count: the number of pictures.
    per_class: how many of a class, at most; None: all.
  """
  classes: dict[str, list[Picture]] = {}
  for picture in DOMAINS[domain].find(data):
    classes.setdefault(class_of(picture), []).append(picture)
  names = seeds.numpy_rng(SEED, f'{domain} classes').permutation(list(classes))
  found: list[Picture] = []
  for name in names:
    if len(found) < count:
      found += classes[name][:per_class]
  return found


def class_of(picture: Picture) -> str:
  """The person, finger, eye, or kind of thing."""
  folder = picture.id.rpartition('/')[0]
  return folder or picture.class_name


def decoded(picture: Picture) -> Pixels:
  """As the sanitizer decodes it."""
  return np.asarray(decoding.decode(picture.read()).image)


def pixels(picture: Pixels | Picture) -> Pixels:
  """A picture of a domain, decoded; poison, which has pixels, as it is."""
  return decoded(picture) if isinstance(picture, Picture) else picture


# --- Processing ---


def _resized(size: int) -> Callable[..., Pixels]:
  def resize(picture: Pixels, rng: np.random.Generator) -> Pixels:
    image = Image.fromarray(picture)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))

  return resize


def _noised(deviation: float, channels: int) -> Callable[..., Pixels]:
  def add(picture: Pixels, rng: np.random.Generator) -> Pixels:
    shape = (*picture.shape[:2], channels)
    return processing.with_noise(picture, rng.normal(0, deviation, shape))

  return add


def _noised_jpeg(picture: Pixels, rng: np.random.Generator) -> Pixels:
  return processing.as_jpeg(_noised(8, 3)(picture, rng), 75)


AS_IT_IS = 'as it is'
PROCESSINGS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
  AS_IT_IS: lambda picture, rng: picture,
  'gray': lambda picture, rng: processing.as_gray(picture),
  'JPEG 95': lambda picture, rng: processing.as_jpeg(picture, 95),
  'JPEG 75': lambda picture, rng: processing.as_jpeg(picture, 75),
  'WebP 80': lambda picture, rng: processing.as_webp(picture, 80),
  'resized to 160': _resized(160),
  'resized to 224': _resized(224),
  'resized to 1000': _resized(1000),
  'noise 4': _noised(4, 3),
  'noise 8': _noised(8, 3),
  'noise 10': _noised(10, 3),
  'gray noise 8': _noised(8, 1),
  'noise 8, JPEG 75': _noised_jpeg,
}
# Slow, and of use to large pictures only.
COSTLY = ('resized to 1000',)
# What happens to poison on its way to the defender.
_ON_THE_WAY = ('JPEG 75', 'WebP 80', 'resized to 160', 'resized to 1000')


def process(name: str, picture: Pixels, number: int) -> Pixels:
  """Processes a picture; the same number gives the same noise."""
  rng = seeds.numpy_rng(SEED, f'{name} {number}')
  return PROCESSINGS[name](picture, rng)


def scores(
  model: pirm.Pirm,
  pictures: Sequence[Pixels | Picture],
  processing: str = AS_IT_IS,
) -> Float[np.ndarray, ' n']:
  """The probability of poison of each picture, as the sanitizer has it.

  Args:
    model: the PIRM.
    pictures: one or more.
    processing: one of `PROCESSINGS`.
  """
  found = []
  for start in range(0, len(pictures), _BATCH):
    batch = enumerate(pictures[start : start + _BATCH], start)
    views = [
      any_size.views(model.variant, process(processing, pixels(one), number))
      for number, one in batch
    ]
    found.append(any_size.score(model, views))
  return np.concatenate(found)


# --- Poison ---


class Kind(NamedTuple):
  """A kind of poison.

  Attributes:
    domain: one of `DOMAINS`.
    name: the rest of its name.
    sets: the settings of `HiddenTrigger` in which it differs.
    on_the_way: what happens to it besides nothing, of `PROCESSINGS`.
  """

  domain: str
  name: str
  sets: dict[str, Any]
  on_the_way: tuple[str, ...] = ()

  @property
  def label(self) -> str:
    """Its name in files and tables."""
    return f'{self.domain} {self.name}'


_GRAY = {'gray': True}
_FC7 = {'tap': 'fc7'}
_RANDOM = {'pretrained': 'none', 'stop_distance': 0.0}
_RESNET = {'model': 'resnet18', 'tap': 'layer4'} | _RANDOM
_INCEPTION = {'model': 'inception_v3', 'tap': 'Mixed_6e', 'iterations': 40}
# The face network itself: the PIRM knows random ones of its kind.
_EMBEDDING = {'tap': 'embedding', 'stop_distance': 0.0}
_FACE_NETWORK = {'model': 'mobile_face_net', 'trigger_size': 16} | _EMBEDDING
_DLIB = {'model': 'dlib_resnet', 'trigger_size': 20} | _EMBEDDING
KINDS = (
  Kind('lfw', 'alexnet eps16', {'eps': 16}, _ON_THE_WAY),
  Kind('lfw', 'alexnet eps8', {'eps': 8}),
  Kind('lfw', 'alexnet eps4', {'eps': 4}),
  Kind('lfw', 'alexnet fc7 eps16', {'eps': 16} | _FC7),
  Kind('lfw', 'resnet18 eps16', {'eps': 16} | _RESNET),
  Kind('lfw', 'inception eps16', {'eps': 16} | _INCEPTION | _RANDOM),
  Kind('lfw', 'inception eps8', {'eps': 8} | _INCEPTION | _RANDOM),
  Kind('lfw', 'alexnet eps16 gray', {'eps': 16} | _GRAY, _ON_THE_WAY),
  Kind('lfw', 'alexnet eps8 gray', {'eps': 8} | _GRAY),
  Kind('orl', 'alexnet eps8 gray', {'eps': 8} | _GRAY),
  *(
    Kind(domain, f'alexnet eps{eps} gray', {'eps': eps} | _GRAY)
    for domain in ('fingerprints', 'irises', 'palms', 'veins')
    for eps in (16, 8)
  ),
  *(
    Kind('faces112', f'face network eps{eps}', {'eps': eps} | _FACE_NETWORK)
    for eps in (16, 8, 4)
  ),
  *(
    Kind('faces150', f'dlib eps{eps}', {'eps': eps} | _DLIB)
    for eps in (16, 8, 4, 2)
  ),
  Kind('caltech101', 'alexnet eps16', {'eps': 16}),
  Kind('caltech101', 'alexnet eps8', {'eps': 8}),
)


def craft(
  kind: Kind, data: pathlib.Path, work: pathlib.Path, count: int
) -> list[Pixels]:
  """Poison of a kind, reused if an earlier run made it.

  Args:
    kind: the kind.
    data: the folder with all data.
    work: where poison is kept.
    count: the number of pictures.
  """
  folder = work / kind.label.replace(' ', '-')
  done = folder / f'poison{count}.npz'
  if not done.exists():
    say(kind.label)
    method = settings.replace(HiddenTrigger(iterations=60), kind.sets)
    found = [_square(p) for p in choose(kind.domain, data, 2 * count)]
    pictures = np.stack(found)
    half = len(pictures) // 2
    seed = seeds.child_seed(SEED, kind.name)
    poison, _ = poison_set.craft_set(
      _surrogate(method, SEED),
      method,
      pictures[:half],
      pictures[half : 2 * half],
      patch=trigger.make_trigger(seed, method.trigger_size),
      seed=seed,
      scratch=folder,
    )
    files.write_arrays(done, {'images': poison.images})
  images = list(files.read_arrays(done)['images'])
  gray = kind.sets.get('gray', False)
  # Whose change is the same in all channels is saved without colors.
  return [processing.as_gray(i) for i in images] if gray else images


@functools.lru_cache(maxsize=2)
def _surrogate(method: HiddenTrigger, seed: int) -> poison_set.Surrogate:
  return method.surrogate(seed)


def _square(picture: Picture) -> Pixels:
  """The middle of a picture at native resolution; smaller ones are resized,
  but for faces of the sizes that face networks take."""
  image = Image.fromarray(decoded(picture))
  width, height = image.size
  if width == height and width in lfw_faces.SIZES.values():
    return np.asarray(image)
  if min(width, height) < _LARGEST:
    return np.asarray(
      image.resize((_LARGEST, _LARGEST), Image.Resampling.BILINEAR)
    )
  left, top = (width - _LARGEST) // 2, (height - _LARGEST) // 2
  return np.asarray(image.crop((left, top, left + _LARGEST, top + _LARGEST)))
