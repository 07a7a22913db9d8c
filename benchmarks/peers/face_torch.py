"""The peer of `benchmarks.face_networks`: PyTorch on the same work.

  python benchmarks/peers/face_torch.py --model=dlib_resnet --work=crafting

Crafting: plain descent on the distance of embeddings, the parameters without
gradients, channels last where that is faster. Head: steps of Adam on a linear
layer, on embeddings. Random weights: the arithmetic is the same. Prints items
per second. Needs torch.
"""

import argparse
import itertools
import json
import time

import torch
from torch import nn
from torch.nn import functional

_DLIB = ((32, False, 3), (64, True, 3), (128, True, 2), (256, True, 2))
_MOBILE = ((64, 128, 128, 4), (128, 256, 256, 6), (128, 256, 512, 2))
_WIDTHS = {'dlib_resnet': 128, 'mobile_face_net': 512}
_SIDES = {'dlib_resnet': 150, 'mobile_face_net': 112}


class DlibBlock(nn.Module):
  """Two 3x3 convolutions around a shortcut; halving ones pad nothing."""

  def __init__(self, channels: int, width: int, halves: bool):
    super().__init__()
    self.halves, self.missing = halves, width - channels
    stride, padding = (2, 0) if halves else (1, 1)
    self.conv1 = nn.Conv2d(channels, width, 3, stride, padding)
    self.conv2 = nn.Conv2d(width, width, 3, padding=1)

  def forward(self, x):
    """Maps [n, c, h, w] to half the sides, or the same."""
    y = self.conv2(functional.relu(self.conv1(x)))
    if self.halves:
      x = functional.avg_pool2d(x, 2)
      high, wide = (x.shape[i] - y.shape[i] for i in (2, 3))
      y = functional.pad(y, (0, max(wide, 0), 0, max(high, 0)))
      x = functional.pad(
        x, (0, max(-wide, 0), 0, max(-high, 0), 0, self.missing)
      )
    return functional.relu(x + y)


def dlib_resnet() -> nn.Module:
  """dlib's network for faces."""
  layers = [nn.Conv2d(3, 32, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
  channels = 32
  for width, halves, plain in (*_DLIB, (256, True, 0)):
    for block in range(halves + plain):
      layers.append(DlibBlock(channels, width, halves and block == 0))
      channels = width
  pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 128)]
  return nn.Sequential(*layers, *pool)


def _mobile_block(
  channels: int, inner: int, width: int, stride: int
) -> nn.Module:
  return nn.Sequential(
    nn.Conv2d(channels, inner, 1),
    nn.PReLU(inner),
    nn.Conv2d(inner, inner, 3, stride, 1, groups=inner),
    nn.PReLU(inner),
    nn.Conv2d(inner, width, 1),
  )


class Residual(nn.Module):
  """A block beside its input."""

  def __init__(self, block: nn.Module):
    super().__init__()
    self.block = block

  def forward(self, x):
    """Maps [n, c, h, w] to the same."""
    return x + self.block(x)


def mobile_face_net() -> nn.Module:
  """MobileFaceNet, twice as wide as the paper's."""
  layers = [nn.Conv2d(3, 64, 3, 2, 1), nn.PReLU(64)]
  layers += [nn.Conv2d(64, 64, 3, 1, 1, groups=64), nn.PReLU(64)]
  channels = 64
  for width, inner, first, blocks in _MOBILE:
    layers.append(_mobile_block(channels, first, width, 2))
    layers += [
      Residual(_mobile_block(width, inner, width, 1)) for _ in range(blocks)
    ]
    channels = width
  layers += [nn.Conv2d(channels, 512, 1), nn.PReLU(512)]
  layers += [nn.Conv2d(512, 512, 7, groups=512), nn.Flatten()]
  return nn.Sequential(*layers, nn.Linear(512, 512))


_NETWORKS = {'dlib_resnet': dlib_resnet, 'mobile_face_net': mobile_face_net}


def crafting(model: str, batch: int, repeats: int) -> float:
  """Image-iterations per second, in the faster of two layouts."""
  network = _NETWORKS[model]().eval().requires_grad_(False)
  layouts = (torch.contiguous_format, torch.channels_last)
  return max(
    _crafting(network.to(memory_format=layout), layout, model, batch, repeats)
    for layout in layouts
  )


def _crafting(network, layout, model: str, batch: int, repeats: int) -> float:
  side, rate, eps = _SIDES[model], 0.01, 16 / 255
  image = torch.rand(batch, 3, side, side).to(memory_format=layout)
  with torch.no_grad():
    goal = network(torch.rand_like(image))

  def step(delta):
    delta = delta.detach().requires_grad_(True)
    loss = ((network(image + delta) - goal) ** 2).sum()
    loss.backward()
    with torch.no_grad():
      moved = (delta - rate * delta.grad).clamp(-eps, eps)
      return (image + moved).clamp(0, 1) - image

  delta = step(torch.zeros_like(image))
  start = time.perf_counter()
  for _ in range(repeats):
    delta = step(delta)
  return batch * repeats / (time.perf_counter() - start)


def head(model: str, batch: int, repeats: int) -> float:
  """Embeddings per second of a linear layer that trains."""
  embeddings = torch.rand(1024, _WIDTHS[model])
  labels = torch.arange(1024) % 12
  linear = nn.Linear(_WIDTHS[model], 12)
  optimizer = torch.optim.Adam(linear.parameters(), lr=1e-2)
  places = itertools.cycle(range(0, 1024 - batch + 1, batch))

  def step():
    here = slice(first := next(places), first + batch)
    optimizer.zero_grad()
    loss = functional.cross_entropy(linear(embeddings[here]), labels[here])
    loss.backward()
    optimizer.step()

  step()
  start = time.perf_counter()
  for _ in range(repeats):
    step()
  return batch * repeats / (time.perf_counter() - start)


def main() -> None:
  """Times one kind of work."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--model', required=True)
  parser.add_argument('--work', choices=('crafting', 'head'), required=True)
  parser.add_argument('--batch', type=int, default=48)
  parser.add_argument('--repeats', type=int, default=8)
  parser.add_argument('--threads', type=int, default=2)
  args = parser.parse_args()
  torch.set_num_threads(args.threads)
  torch.manual_seed(0)
  measure = {'crafting': crafting, 'head': head}[args.work]
  rate = measure(args.model, args.batch, args.repeats)
  print(json.dumps({'torch': torch.__version__, 'rate': rate}))


if __name__ == '__main__':
  main()
