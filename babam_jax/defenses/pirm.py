"""The poison image recognition model: is this picture clean or poison?
(paper 3.4 and 4.10)

Three variants: 'vgg16' is the paper's; 'compact' and 'residual' are small
networks for small machines that look at native resolution.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import flax.linen
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from babam_jax import errors, files, invocation, seeds, settings
from babam_jax.defenses import calibration, grain, tiling
from babam_jax.defenses.calibration import Calibration
from babam_jax.defenses.suspect import Verdict
from babam_jax.models import compact_pirm, layers, residual_pirm, vgg
from babam_jax.models.pretrained import weights
from babam_jax.training import augment, parallel, train
from babam_jax.training.recognizer import to_unit

# The small networks, by variant.
SMALL = {
  'compact': compact_pirm.CompactPirm,
  'residual': residual_pirm.ResidualPirm,
}
FIRST_LAYERS = {'compact': 'conv1', 'residual': 'high_pass'}
VARIANTS = (*SMALL, 'vgg16')
POISON = 1  # the label; 0 is clean
_ASSETS = pathlib.Path(__file__).parents[1] / 'assets'
# The PIRMs that come with the project, by their names in configs.
SHIPPED = {
  'shipped': _ASSETS / 'pirm_compact.npz',
  'general': _ASSETS / 'pirm_general.npz',
  'hardened': _ASSETS / 'pirm_hardened.npz',
}
TRAIN = 'train'  # in place of a name: the experiment trains one
CROP = 64  # pixels a side
VGG_INPUT = (178, 218)  # height and width
_META, _CLEAN_SCORES = 'meta', 'clean_scores'
_STRATA = ('strata_position', 'strata_quantiles')


class Pirm(NamedTuple):
  """A trained PIRM.

  Attributes:
    variant: one of `VARIANTS`.
    variables: parameters and batch statistics.
    meta: what it was trained on, and its rates on pictures held out.
    calibration: how its evidence becomes a probability.
  """

  variant: str
  variables: PyTree
  meta: dict[str, Any]
  calibration: Calibration = Calibration()

  def judge(
    self,
    images: UInt8[np.ndarray, 'n h w 3'] | Sequence[UInt8[np.ndarray, '_ _ 3']],
    *,
    threshold: float | None = None,
    fpr: float | None = None,
  ) -> Verdict:
    """Judges whether pictures are poison, as the sanitizer does.

    Args:
      images: uint8 RGB pictures of one size, or a list of any sizes; one or
        more, each at least 32 pixels a side.
      threshold: pictures with a higher probability of poison are flagged.
      fpr: instead of a threshold, the share that may be flagged of the clean
        pictures held out when the PIRM was trained. By default it is 0.01; for
        a PIRM without their scores the threshold is 0.5.

    Returns:
      For each picture, in order, the probability of poison (float64) and
      whether it is flagged.

    Raises:
      UserError: a wrong dtype or shape, no picture, or a wrong threshold or
        rate.
    """
    from babam_jax.defenses import judging  # it imports this module

    return judging.judge(self, images, threshold, fpr)


def _small(variant: str, filters: int) -> flax.linen.Module:
  if variant == 'residual':
    return residual_pirm.ResidualPirm(filters)
  return SMALL[variant]()


def filters_of(variant: str, params: PyTree) -> int:
  """The filters of the first layer of one of the small networks."""
  return int(params[FIRST_LAYERS[variant]]['kernel'].shape[-1])


def small_network(
  variant: str, seed: int, filters: int = residual_pirm.FILTERS
) -> train.Network:
  """One of the small networks, to be trained on random crops.

  Args:
    variant: one of `SMALL`.
    seed: the seed of the initial parameters.
    filters: of the first layer of 'residual'.
  """
  model = _small(variant, filters)
  variables = model.init(
    seeds.jax_key(seed, 'pirm init'), jnp.zeros((1, CROP, CROP, 3))
  )

  def apply(params, stats, frozen, images, keys, row_weights):
    crops = jax.vmap(augment.crop_and_flip, (0, 0, None))(
      keys, to_unit(images), CROP
    )
    logits, updated = model.apply(
      {'params': params, 'batch_stats': stats},
      crops,
      layers.Training(keys, row_weights, parallel.AXIS),
      mutable=['batch_stats'],
    )
    return (logits,), updated['batch_stats']

  return train.Network(apply, variables['params'], variables['batch_stats'], {})


def begun_from(known: Pirm, seed: int) -> train.Network:
  """A small network whose layers, but for the first, are those of a PIRM."""
  params, stats = known.variables['params'], known.variables['batch_stats']
  network = small_network(
    known.variant, seed, filters_of(known.variant, params)
  )
  first = FIRST_LAYERS[known.variant]
  params = dict(params) | {first: network.params[first]}
  return network._replace(params=params, stats=stats)


def _vgg_input(images: UInt8[Array, 'n h w 3']) -> Float[Array, 'n 178 218 3']:
  shape = (len(images), *VGG_INPUT, 3)
  return jax.image.resize(to_unit(images), shape, 'linear')


def vgg16_network(
  seed: int, trainable_convs: int, pretrained: bool = True
) -> train.Network:
  """The paper's variant; all but the last convolutions keep ImageNet's weights.

  Args:
    seed: the seed of the dense layers.
    trainable_convs: how many of the 13 convolutions train, counted from the
      last: 6 is "two blocks" (3.4), 3 is 4.10, 9 the released script.
    pretrained: whether to start from the embedded ImageNet trunk.
  """
  model = vgg.PaperPirm()
  init = jax.jit(lambda key: model.init(key, jnp.zeros((1, *VGG_INPUT, 3))))
  params = init(seeds.jax_key(seed, 'pirm init'))['params']
  if pretrained:
    embedded = weights.find('vgg16', 'trunk')
    params['trunk'] = embedded.variables['params']['trunk']
  frozen_names = sorted(params['trunk'])[
    : len(params['trunk']) - trainable_convs
  ]
  flat = flax.traverse_util.flatten_dict(params)
  frozen = {path: x for path, x in flat.items() if path[1] in frozen_names}
  trainable = {path: x for path, x in flat.items() if path not in frozen}
  unflatten = flax.traverse_util.unflatten_dict

  def apply(params, stats, frozen, images, keys, row_weights):
    affine_keys, dropout_keys = jax.vmap(
      lambda key: tuple(jax.random.split(key)), out_axes=0
    )(keys)
    images = jax.vmap(augment.random_affine)(affine_keys, _vgg_input(images))
    flat = flax.traverse_util.flatten_dict
    merged = unflatten(flat(params) | flat(frozen))
    training = layers.Training(dropout_keys, row_weights, parallel.AXIS)
    logits = cast(Array, model.apply({'params': merged}, images, training))
    return (logits,), stats

  return train.Network(apply, unflatten(trainable), {}, unflatten(frozen))


def variables_of(network: train.Network, trained: train.Trained) -> PyTree:
  """All variables of a trained network, frozen ones included."""
  flat = flax.traverse_util.flatten_dict
  params = flat(trained.params) | flat(network.frozen)
  params = flax.traverse_util.unflatten_dict(params)
  return {'params': params, 'batch_stats': trained.stats}


def _logits_fn(variant: str) -> Callable[..., Float[Array, 'n 2']]:
  if variant == 'vgg16':
    paper = vgg.PaperPirm()
    return lambda variables, images: cast(
      Array, paper.apply(variables, _vgg_input(images))
    )
  if variant == 'compact':  # averages over the whole picture itself
    small = SMALL[variant]()
    return lambda variables, images: cast(
      Array, small.apply(variables, to_unit(images))
    )

  def logits(variables, images):
    """The mean over tiles as large as those that it was trained on."""
    small = _small(variant, filters_of(variant, variables['params']))
    parts = tiling.tiles(to_unit(images), CROP)
    count, each = parts.shape[:2]
    found = small.apply(variables, parts.reshape(-1, CROP, CROP, 3))
    return jnp.mean(cast(Array, found).reshape(count, each, 2), axis=1)

  return logits


def evidence_fn(variant: str) -> Callable[..., Float[Array, ' n']]:
  """`(variables, pictures) -> evidence for poison`; differentiable."""
  logits_fn = _logits_fn(variant)

  def evidence(variables, images):
    logits = logits_fn(variables, images)
    return logits[:, POISON] - logits[:, 1 - POISON]

  return evidence


def evidence_of_all(
  variants: Sequence[str],
) -> Callable[..., Float[Array, 'k n']]:
  """Like `evidence_fn`, for k PIRMs: takes a sequence of their variables."""
  functions = [evidence_fn(variant) for variant in variants]

  def evidence(variables, images):
    pairs = zip(functions, variables, strict=True)
    return jnp.stack([found(known, images) for found, known in pairs])

  return evidence


@functools.cache
def _kernel(variant: str) -> Callable[..., Array]:
  found = evidence_fn(variant)

  def evidence_and_look(variables, images):
    return jnp.stack([found(variables, images), *grain.look(images)], axis=1)

  return parallel.mapped(evidence_and_look, 1, 1)


def score(
  pirm: Pirm,
  images: UInt8[np.ndarray, 'n h w 3'],
  batch_size: int,
  on_batch: Callable[[int], object] = lambda rows: None,
) -> Float[np.ndarray, ' n']:
  """The probability of poison for each picture."""
  found = evidence(pirm, images, batch_size, on_batch)
  scaled = grain.normalized(pirm.calibration.strata, found, views=1)
  return calibration.probability(pirm.calibration, scaled)


def evidence(
  pirm: Pirm,
  images: UInt8[np.ndarray, 'n h w 3'],
  batch_size: int,
  on_batch: Callable[[int], object] = lambda rows: None,
) -> grain.Evidence:
  """The evidence for poison of each picture, its two logits' difference, and
  how it looks."""
  found = parallel.map_batches(
    _kernel(pirm.variant), pirm.variables, (images,), batch_size, on_batch
  )
  return grain.Evidence(found[:, 0], found[:, 1], found[:, 2] > 0)


def path_of(where: str) -> pathlib.Path:
  """The file of a PIRM, given the name of a shipped one or a path."""
  return SHIPPED.get(where, files.named(where))


def check_file(field: str, where: str, others: str = '') -> None:
  """Checks that a PIRM is there.

  Args:
    field: the path of the setting that names it, below `config`.
    where: a name or a file.
    others: other values of the setting, for the error message.

  Raises:
    UserError: the file is missing.
  """
  if not path_of(where).is_file():
    names = ', '.join(map(repr, SHIPPED))
    expected = f'{names}, {others}or a file that launch.pirm wrote'
    settings.refuse(field, where, expected)


def load_pirm(where: str | os.PathLike[str] = 'general') -> Pirm:
  """Reads a PIRM.

  Args:
    where: 'general' (knows many kinds of poison), 'shipped' (one kind, well)
      or 'hardened', which come with the package; or a file.

  Raises:
    UserError: there is no such file, or it holds no PIRM.
  """
  return load(path_of(os.fspath(where)), 'pirm')


def fingerprint(path: pathlib.Path) -> str:
  """SHA-256 of a PIRM's file."""
  return hashlib.sha256(path.read_bytes()).hexdigest()


def save(pirm: Pirm, path: pathlib.Path) -> None:
  """Writes a PIRM as one `.npz` of plain arrays."""
  flat = flax.traverse_util.flatten_dict(pirm.variables, sep='/')
  slope, offset, clean, strata = pirm.calibration
  meta = {'variant': pirm.variant, 'slope': slope, 'offset': offset}
  arrays = {name: np.asarray(value) for name, value in flat.items()}
  arrays[_META] = np.array(json.dumps(pirm.meta | meta))
  arrays[_CLEAN_SCORES] = np.sort(clean).astype(np.float32)
  if strata is not None:
    arrays |= zip(_STRATA, (x.astype(np.float32) for x in strata), strict=True)
  files.write_arrays(path, arrays)


def _array_shapes(variant: str, params: PyTree) -> dict[str, tuple[int, ...]]:
  """The shapes that it has with as many filters as these parameters have."""
  if variant == 'vgg16':
    model, size = vgg.PaperPirm(), VGG_INPUT
  else:
    filters = filters_of(variant, params)
    if not filters:
      raise ValueError('its first layer has no filters')
    model, size = _small(variant, filters), (CROP, CROP)
  variables = jax.eval_shape(
    lambda key: model.init(key, jnp.zeros((1, *size, 3))), jax.random.key(0)
  )
  flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep='/')
  return {name: leaf.shape for name, leaf in flat.items()}


def _pop_strata(arrays: dict[str, np.ndarray]) -> grain.Strata | None:
  """Takes the strata out of what was read from a file.

  Raises:
    ValueError: they are not what `save` writes.
  """
  if not any(name in arrays for name in _STRATA):
    return None
  found = grain.Strata(*(arrays.pop(name) for name in _STRATA))
  count = found.position.shape[-1]
  shapes = [(2, count), (2, count, 3)]
  if not count or [x.shape for x in found] != shapes:
    raise ValueError('its strata are mis-shaped')
  if not all(np.isfinite(x).all() for x in found):
    raise ValueError('its strata hold numbers that are not finite')
  if (np.diff(found.position) < 0).any() or (
    np.diff(found.quantiles) < 0
  ).any():
    raise ValueError('its strata are not in order')
  return found


def load(
  path: pathlib.Path, field: str = 'config.defense.pirm.checkpoint'
) -> Pirm:
  """Reads a PIRM that `save` wrote; runs nothing that is in the file.

  Args:
    path: the file.
    field: the setting that named it, for the error message.

  Raises:
    UserError: there is no such file, or it holds no PIRM.
  """
  try:
    arrays = files.read_arrays(path)
    meta = files.parse_json(str(arrays.pop(_META)))
    variant = meta.pop('variant')
    # Older files have no such scores.
    clean = arrays.pop(_CLEAN_SCORES, np.zeros(0, np.float32))
    if clean.ndim != 1 or not (np.diff(clean) >= 0).all():
      raise ValueError('its scores of clean pictures are not in order')
    read = Calibration(
      float(meta.pop('slope', 1)),
      float(meta.pop('offset', 0)),
      clean,
      _pop_strata(arrays),
    )
    numbers = [*arrays.values(), clean, read.slope, read.offset]
    if not all(np.isfinite(found).all() for found in numbers):
      raise ValueError('it holds numbers that are not finite')
    variables = flax.traverse_util.unflatten_dict(arrays, sep='/')
    found = {name: array.shape for name, array in arrays.items()}
    kinds = {array.dtype for array in arrays.values()}
    expected = _array_shapes(variant, variables['params'])
    if found != expected or kinds != {np.dtype(np.float32)}:
      raise ValueError(f'its arrays are not those of a {variant} PIRM')
  except (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
  ) as error:
    raise errors.UserError(
      f'{field}: {path} cannot be read ({error}); expected a PIRM that '
      f'`{invocation.line("pirm")}` has saved. Give another file, or none for '
      'the one that comes with the project.'
    ) from None
  return Pirm(variant, variables, meta, read)
