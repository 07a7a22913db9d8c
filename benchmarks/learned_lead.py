"""Whether visible triggers can be told from single pictures: a network that
learns what was done to each region of natural pictures, judged on faces.

  python -m benchmarks.learned_lead --data=../shared/data

The other lead, beside what recurs (`benchmarks.recurring`). The network is
convolutional, sees pictures at native resolution, and says of each region of 16
x 16 pixels: nothing, a patch was pasted, something lies over the picture, a
periodic pattern, a warp. It learns on natural pictures alone, among them such
with captions, boxes, borders and watermarks, which are nothing. A picture's
score is that of its most suspicious four regions; the threshold is passed by
one in a hundred of natural pictures that it has not seen. Writes
`results/sanitize/learned_lead.json` and `.md`; half an hour on two cores.
"""

import pathlib
import shlex
import sys
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from babam_jax import cpu, files, seeds
from babam_jax.attacks.badnets import PATCHES
from babam_jax.config import rules
from babam_jax.data import processing
from babam_jax.data.image_folder import Picture
from babam_jax.evaluation.statistics import auroc
from babam_jax.experiment import environment
from babam_jax.pirm_training import natural_pictures
from babam_jax.progress import progress_bar
from benchmarks import judged_pictures, seen_triggers
from benchmarks.judged_pictures import Pixels
from configs import pirm_general

_DATA = flags.DEFINE_string('data', '../shared/data', 'The folder of all data.')
_RESULTS = flags.DEFINE_string('results', 'results/sanitize', 'A folder.')
_STEPS = flags.DEFINE_integer('steps', 5000, 'Steps of training.')
KINDS = ('nothing', 'patch', 'overlay', 'periodic', 'warp')
_SIZE, _CELL = 128, 16  # pixels a side
_EVERYWHERE = np.ones((_SIZE // _CELL,) * 2, bool)
_BATCH, _RATE = 24, 1e-3
_CROPS = 4000
_FPR = 0.01
_FACES = 200  # shown with each trigger
_DOMAINS = (
  *('lfw', 'orl', 'faces112', 'portraits', 'fingerprints', 'irises'),
  *('palms', 'veins', 'caltech101', 'textures', 'cameras'),
)


class Regions(nn.Module):
  """From a picture to what was done to each of its regions."""

  @nn.compact
  def __call__(self, images):
    """Logits of `KINDS` for each region, for pixels in [0, 1]."""
    x = images * 2 - 1
    for width, stride in ((32, 2), (32, 1), (64, 2), (64, 1), (96, 2), (96, 2)):
      x = nn.Conv(width, (3, 3), stride, padding=1)(x)
      x = nn.relu(nn.GroupNorm(8)(x))
    return nn.Conv(len(KINDS), (3, 3), padding=1)(x)


# --- What is done to pictures ---


def _pasted(image: Pixels, rng: np.random.Generator):
  """A patch, with its regions."""
  size = int(rng.integers(12, 49))
  made = ['mosaic', 'plain', 'logo', 'other', 'disc'][rng.integers(5)]
  if made in PATCHES:
    patch = PATCHES[made](int(rng.integers(1 << 30)), size)
  else:
    colors = rng.integers(0, 256, (2, 2, 3), np.uint8)
    patch = cv2.resize(colors, (size, size))
  top, left = rng.integers(0, _SIZE - size, 2)
  part = np.s_[top : top + size, left : left + size]
  mask = np.ones((size, size), np.float32)
  if made == 'disc':
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    mask = (np.hypot(x, y) < size / 2).astype(np.float32)
  mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.1, 1.0))[..., None]
  found = image.astype(np.float32)
  found[part] = mask * patch + (1 - mask) * found[part]
  regions = np.zeros((_SIZE, _SIZE), bool)
  regions[part] = True
  cells = regions.reshape(_SIZE // _CELL, _CELL, -1, _CELL).mean((1, 3))
  return found, cells > 0.25


def _overlaid(image: Pixels, rng: np.random.Generator):
  """A random pattern, or a small picture enlarged, over the picture."""
  side = int(rng.choice([_SIZE, 32, 8]))
  over = rng.integers(0, 256, (side, side, 3), np.uint8)
  over = cv2.resize(over, (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)
  share = rng.uniform(0.08, 0.3)
  return (1 - share) * image + share * over, _EVERYWHERE


def _periodic(image: Pixels, rng: np.random.Generator):
  y, x = np.mgrid[:_SIZE, :_SIZE]
  angle, waves = rng.uniform(0, np.pi), rng.uniform(3, 24)
  along = x * np.cos(angle) + y * np.sin(angle)
  wave = np.sin(2 * np.pi * along * waves / _SIZE + rng.uniform(0, 6))
  return image + rng.uniform(8, 40) * wave[..., None], _EVERYWHERE


def _warped(image: Pixels, rng: np.random.Generator):
  coarse = rng.uniform(-1, 1, (int(rng.integers(4, 9)),) * 2 + (2,))
  shift = cv2.resize(coarse.astype(np.float32), (_SIZE, _SIZE))
  shift *= rng.uniform(0.5, 4) / np.abs(coarse).mean()
  y, x = np.mgrid[:_SIZE, :_SIZE].astype(np.float32)
  found = cv2.remap(
    image,
    x + shift[..., 0],
    y + shift[..., 1],
    cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REFLECT,
  )
  return found, _EVERYWHERE


_DONE = (_pasted, _overlaid, _periodic, _warped)


def _honest(image: Pixels, rng: np.random.Generator) -> Pixels:
  """What people put on pictures: text, bars, borders, watermarks."""
  image = image.copy()
  kind = rng.integers(6)
  color = tuple(map(int, rng.integers(0, 256, 3)))
  if kind == 0:
    where = (int(rng.integers(0, 60)), int(rng.integers(15, 125)))
    text = ''.join(map(chr, rng.integers(48, 91, 12)))
    scale = rng.uniform(0.3, 0.9)
    cv2.putText(image, text, where, rng.integers(4), scale, color, 1)
  elif kind == 1:
    height = int(rng.integers(4, 30))
    image[-height:] = color
  elif kind == 2:
    width = int(rng.integers(2, 10))
    cv2.rectangle(image, (0, 0), (127, 127), color, width)
  elif kind == 3:
    over = image.copy()
    cv2.putText(over, 'SAMPLE', (5, 80), 0, 0.9, (255, 255, 255), 2)
    image = cv2.addWeighted(over, 0.3, image, 0.7, 0)
  return image  # two of six: as it is


def _example(image: Pixels, rng: np.random.Generator):
  """A picture after something, or nothing, and what was done to its regions."""
  kind = int(rng.choice(len(KINDS), p=(0.4, 0.2, 0.15, 0.1, 0.15)))
  image = _honest(image, rng)
  cells = np.zeros(_EVERYWHERE.shape, np.int32)
  if kind:
    image, where = _DONE[kind - 1](image, rng)
    cells[where] = kind
  image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
  if rng.random() < 0.7:
    image = processing.as_jpeg(image, int(rng.integers(70, 100)))
  return image, cells


# --- Learning, judging ---


def _crops(pictures: list[Picture], count: int) -> list[Pixels]:
  rng = np.random.default_rng(5)
  found: list[Pixels] = []
  order = rng.permutation(len(pictures))
  for place in np.tile(order, 1 + count // len(order)):
    image = judged_pictures.decoded(pictures[place])
    if min(image.shape[:2]) >= _SIZE:
      top, left = (rng.integers(0, s - _SIZE + 1) for s in image.shape[:2])
      found.append(image[top : top + _SIZE, left : left + _SIZE].copy())
    if len(found) == count:
      break
  return found


def train(crops: list[Pixels], steps: int):
  """The network's parameters after training."""
  network = Regions()
  params = network.init(jax.random.key(0), jnp.zeros((1, _SIZE, _SIZE, 3)))
  tx = optax.adam(optax.cosine_decay_schedule(_RATE, steps))

  @jax.jit
  def step(params, state, images, cells):
    def loss_of(params):
      logits = network.apply(params, images / 255.0)
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, cells)
      return loss.mean()

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, state = tx.update(gradients, state)
    return optax.apply_updates(params, updates), state, loss

  state = tx.init(params)
  with progress_bar(steps, 'regions', 'step') as bar:
    for number in range(steps):
      rng = seeds.numpy_rng(0, f'step {number}')
      rows = rng.integers(0, len(crops), _BATCH)
      made = [_example(crops[row], rng) for row in rows]
      images, cells = (np.stack(part) for part in zip(*made, strict=True))
      params, state, loss = step(params, state, images, cells)
      bar.update()
      if number % 100 == 99:
        bar.set_postfix(loss=f'{float(loss):.3f}')
  return params


def scores(params, pictures: list[Pixels]) -> np.ndarray:
  """Of each picture, from 0 to 1: the mean of its most suspicious four
  neighboring regions."""
  apply = jax.jit(Regions().apply)
  found = []
  for picture in pictures:
    height, width = picture.shape[:2]
    scale = min(1, 320 / max(height, width))
    size = [max(64, int(scale * side) // 32 * 32) for side in (width, height)]
    image = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    chances = jax.nn.softmax(apply(params, image[None] / 255.0))[0]
    done = 1 - np.asarray(chances[..., 0])
    four = cv2.boxFilter(done, -1, (2, 2), borderType=cv2.BORDER_REFLECT)
    found.append(four.max())
  return np.array(found)


def main(argv) -> None:
  """Learns, judges, writes."""
  del argv
  cpu.configure()
  data = pathlib.Path(_DATA.value)
  config = rules.check(pirm_general.get_config(data))
  pictures = natural_pictures.find(config.pirm)
  kept = natural_pictures.held_out(pictures, config.seed)
  seen = [p for p in pictures if not kept[p.id] and 'tiny' not in p.id]
  params = train(_crops(seen, _CROPS), _STEPS.value)
  unseen = [p for p in pictures if kept[p.id] and 'tiny' not in p.id]
  natural = scores(params, _crops(unseen, 1000))
  threshold = float(np.quantile(natural, 1 - _FPR))
  rows: list[dict[str, Any]] = []
  clean_faces = np.zeros(0)
  for domain in _DOMAINS:
    chosen = judged_pictures.choose(domain, data, 400)
    found = scores(params, [judged_pictures.decoded(p) for p in chosen])
    if domain == 'lfw':
      clean_faces = found
    rows.append(_row(f'clean {domain}', found, threshold))
  faces = [
    judged_pictures.decoded(p)
    for p in judged_pictures.choose('lfw', data, 400 + _FACES)[400:]
  ]
  for name, attack in seen_triggers.triggers().items():
    shown = attack.show(np.stack(faces), seed=judged_pictures.SEED)
    found = scores(params, [processing.as_jpeg(one, 92) for one in shown])
    row = _row(name, found, threshold)
    are_poison = np.repeat([False, True], [len(clean_faces), len(found)])
    row['auroc'] = auroc(np.concatenate([clean_faces, found]), are_poison)
    rows.append(row)
  record = {
    'cases': rows,
    'steps': _STEPS.value,
    'threshold': threshold,
    'environment': environment.describe(
      shlex.join(['python', '-m', 'benchmarks.learned_lead', *sys.argv[1:]])
    ),
  }
  results = pathlib.Path(_RESULTS.value)
  files.write_json(results / 'learned_lead.json', record)
  files.write_text(results / 'learned_lead.md', as_markdown(record))
  print(as_markdown(record))


def _row(name: str, found: np.ndarray, threshold: float) -> dict[str, Any]:
  flagged = int((found > threshold).sum())
  return {'name': name, 'pictures': len(found), 'flagged': flagged}


def as_markdown(record: dict[str, Any]) -> str:
  """The record as a page with a table."""
  lines = [
    '# Visible triggers told from single pictures',
    '',
    f'By `{record["environment"]["command"]}`: a network that learned what was '
    'done to regions of natural pictures; flagged is what scores higher than '
    '99 of 100 natural pictures that it has not seen. AUROC: beside clean '
    'faces.',
    '',
    '| pictures | number | flagged % | AUROC % |',
    '|---|---|---|---|',
  ]
  for row in record['cases']:
    share = 100 * row['flagged'] / row['pictures']
    area = f'{100 * row["auroc"]:.1f}' if 'auroc' in row else '-'
    lines.append(
      f'| {row["name"]} | {row["pictures"]} | {share:.1f} | {area} |'
    )
  return '\n'.join([*lines, ''])


if __name__ == '__main__':
  app.run(main)
