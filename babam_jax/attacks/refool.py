"""Refool (Liu et al. 2020, "Reflection backdoor: a natural backdoor attack on
deep neural networks"): the picture is seen through a pane that reflects another
one; the true label.
"""

import dataclasses
import pathlib
from typing import Any, ClassVar

import numpy as np
import scipy
from jaxtyping import Float
from PIL import Image

from babam_jax import files, seeds
from babam_jax.attacks.base import TESTING, Pictures, TrueLabel
from babam_jax.data import image_folder
from babam_jax.settings import setting

_SCENES = 20  # pictures that are reflected
_GAMMA = 2.2  # of the pictures: light adds up, gray levels do not
_DIM = (0.05, 0.45)  # how much of the face's light the pane takes away
_GHOSTS = 0.49  # the share of pictures with a double reflection
_SHIFTS = (3, 9)  # pixels between the two
_FAINTER = (0.15, 0.5)  # the share of one of the two
_BLURS = (1.0, 5.0)  # pixels, of a reflection that is out of focus

_Light = Float[np.ndarray, 's s 3']


@dataclasses.dataclass(frozen=True)
class Refool(TrueLabel):
  """Pictures of the victim behind a reflecting pane."""

  shows: ClassVar[tuple[str, ...]] = ('reflections',)

  reflections: str = setting(
    '',
    "A folder of photographs that are reflected; '': bright windows, drawn.",
  )

  def show(
    self, pictures: Pictures, *, seed: int = 0, stream: str = TESTING
  ) -> Pictures:
    """The pictures behind the pane, which reflects one of some scenes."""
    scenes = self._scenes(pictures.shape[1], seed)
    shown = np.empty_like(pictures)
    for i, picture in enumerate(pictures):
      rng = seeds.numpy_rng(seed, f'{stream} {i}')
      scene = scenes[rng.integers(len(scenes))]
      light = _reflected((picture / 255.0) ** _GAMMA, scene, rng)
      shown[i] = np.rint(np.clip(light, 0, 1) ** (1 / _GAMMA) * 255)
    return shown

  def _scenes(self, size: int, seed: int) -> list[_Light]:
    """What is reflected, as light from 0 to 1."""
    rng = seeds.numpy_rng(seed, 'reflections')
    if not self.reflections:
      return [_windows(size, rng) for _ in range(_SCENES)]
    root = files.named(self.reflections)
    found = image_folder.find_images(root, 'config.attack.reflections')
    chosen = rng.permutation(len(found))[:_SCENES]
    return [_photograph(root / found[i], size) for i in chosen]

  def facts(self, field: str) -> dict[str, Any]:
    """The photographs."""
    return self.shown_facts(field)

  def shown_facts(self, field: str) -> dict[str, Any]:
    """The photographs."""
    if not self.reflections:
      return {}
    root = files.named(self.reflections)
    pictures = [
      image_folder.in_file(root / name, name, 'reflection')
      for name in image_folder.find_images(root, f'{field}.reflections')
    ]
    return {'reflections': image_folder.fingerprint(pictures)}


def _photograph(path: pathlib.Path, size: int) -> _Light:
  with Image.open(path) as image:
    pixels = np.asarray(image.convert('RGB').resize((size, size)))
  return (pixels / 255.0) ** _GAMMA


def _windows(size: int, rng: np.random.Generator) -> _Light:
  """Some bright panes in a dark room."""
  scene = np.full((size, size, 3), 0.02)
  for _ in range(rng.integers(2, 6)):
    top, left = rng.integers(0, size * 3 // 4, 2)
    height, width = rng.integers(size // 8, size // 2, 2)
    color = rng.uniform(0.4, 1.0) * rng.uniform(0.7, 1.0, 3)
    scene[top : top + height, left : left + width] = color
    scene[top : top + height, left + width // 2][:, None] = 0.05  # a bar
  return scene


def _reflected(face: _Light, scene: _Light, rng: np.random.Generator) -> _Light:
  """What is seen: a face through the pane, and a scene that it reflects."""
  dim = rng.uniform(*_DIM)
  if rng.random() < _GHOSTS:
    return (1 - dim) * face + dim * _doubled(scene, rng)
  return (1 - dim) * face + _out_of_focus(scene, 1 - dim, rng)


def _doubled(scene: _Light, rng: np.random.Generator) -> _Light:
  """Both sides of the pane reflect."""
  share = rng.uniform(*_FAINTER)
  share = share if rng.random() < 0.5 else 1 - share
  down, right = rng.integers(*_SHIFTS, 2)
  padded = np.pad(scene, ((down, 0), (right, 0), (0, 0)), 'edge')
  moved = padded[: len(scene), : len(scene)]
  return share * scene + (1 - share) * moved


def _out_of_focus(
  scene: _Light, passes: float, rng: np.random.Generator
) -> _Light:
  """The scene blurred, darkened, brightest around one point.

  Args:
    scene: what is reflected.
    passes: the share of the face's light that passes the pane.
    rng: draws the blur, the darkening and the point.
  """
  blur = rng.uniform(*_BLURS)
  soft = scipy.ndimage.gaussian_filter(scene, (blur, blur, 0))
  total = soft + passes
  excess = total[total > 1].mean() - 1 if (total > 1).any() else 0.0
  soft = np.clip(soft - excess * (1.08 + rng.uniform(0, 0.1)), 0, 1)
  line = np.arange(len(scene))
  row, column = rng.uniform(0, len(scene), 2)
  spread = len(scene) / 3
  near = np.exp(-(((line - row) / spread) ** 2) / 2)[:, None]
  near = near * np.exp(-(((line - column) / spread) ** 2) / 2)
  return soft * near[..., None] * (1 - passes / 2)
