"""The peer of `benchmarks.gpu`: PyTorch on the same GPU.

  python benchmarks/peers/gpu_torch.py

Crafting: hidden-trigger poison that collides in AlexNet's fc7, frozen weights.
Scoring: the paper's PIRM, from 8-bit pictures on the host to logits on the
host. Training: a step of ResNet18, from 8-bit pictures on the host. With TF32,
channels last and cuDNN's search, the fastest found without rewriting the
networks. Prints pictures per second. Needs torch and torchvision.
"""

import argparse
import json
import statistics
import time

import torch
import torchvision
from torch import nn

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def _rate(step, items: int, repeats: int) -> dict[str, float]:
  """Items per second: median, least and most of a few runs."""
  for _ in range(3):
    step()
  torch.cuda.synchronize()
  rates = []
  for _ in range(repeats):
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    rates.append(items / (time.perf_counter() - start))
  return {
    'median': round(statistics.median(rates), 1),
    'least': round(min(rates), 1),
    'most': round(max(rates), 1),
  }


def _constants() -> tuple[torch.Tensor, torch.Tensor]:
  mean, std = (torch.tensor(x, device='cuda') for x in (_MEAN, _STD))
  return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)


def crafting(batch: int, steps: int, repeats: int, precision: str):
  """Image-iterations per second; eps 16, plain descent."""
  network = torchvision.models.alexnet(weights=None).cuda().eval()
  features = nn.Sequential(
    network.features, nn.Flatten(), *list(network.classifier)[:6]
  ).requires_grad_(False)
  features = features.to(memory_format=torch.channels_last)
  mean, std = _constants()
  image = torch.rand(batch, 3, 224, 224, device='cuda')
  image = image.to(memory_format=torch.channels_last)
  half = torch.autocast('cuda', torch.bfloat16, enabled=precision == 'bfloat16')
  with torch.no_grad(), half:
    goal = features((torch.rand_like(image) - mean) / std).float()
  eps = 16 / 255
  delta = torch.zeros_like(image)

  def step() -> None:
    nonlocal delta
    for _ in range(steps):
      delta = delta.detach().requires_grad_(True)
      with half:
        found = features((image + delta - mean) / std)
      ((found.float() - goal) ** 2).sum().backward()
      with torch.no_grad():
        moved = (delta - 0.01 * delta.grad).clamp(-eps, eps)
        delta = (image + moved).clamp(0, 1) - image

  return _rate(step, batch * steps, repeats)


def scoring(batch: int, batches: int, repeats: int) -> dict[str, float]:
  """Pictures per second through VGG16 and two dense layers, 178 x 218."""
  trunk = torchvision.models.vgg16(weights=None).features
  network = nn.Sequential(
    trunk,
    nn.Flatten(),
    nn.Linear(512 * 5 * 6, 512),
    nn.ReLU(),
    nn.Linear(512, 512),
    nn.ReLU(),
    nn.Linear(512, 2),
  )
  network = network.cuda().eval().to(memory_format=torch.channels_last)
  mean, std = _constants()
  pictures = torch.randint(
    0, 256, (batch * batches, 178, 218, 3), dtype=torch.uint8
  ).pin_memory()

  def step() -> None:
    found = []
    with torch.inference_mode():
      for part in pictures.split(batch):
        x = part.cuda(non_blocking=True).permute(0, 3, 1, 2)
        found.append(network((x / 255 - mean) / std).softmax(1))
      torch.cat(found).cpu()

  return _rate(step, len(pictures), repeats)


def training(batch: int, steps: int, repeats: int) -> dict[str, float]:
  """Pictures per second; SGD with momentum, everything trains."""
  network = torchvision.models.resnet18(weights=None, num_classes=12)
  network = network.cuda().to(memory_format=torch.channels_last)
  mean, std = _constants()
  pictures = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8)
  pictures = pictures.pin_memory()
  labels = (torch.arange(batch) % 12).cuda()
  optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

  def step() -> None:
    for _ in range(steps):
      x = pictures.cuda(non_blocking=True).permute(0, 3, 1, 2)
      optimizer.zero_grad()
      logits = network((x / 255 - mean) / std)
      nn.functional.cross_entropy(logits, labels).backward()
      optimizer.step()

  return _rate(step, batch * steps, repeats)


def main() -> None:
  """Measures all."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--repeats', type=int, default=5)
  args = parser.parse_args()
  torch.backends.cuda.matmul.allow_tf32 = True
  torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True
  found = {'torch': torch.__version__}
  for batch in (48, 1008):
    for precision in ('tf32', 'bfloat16'):
      found[f'crafting, {batch} at once, {precision}'] = crafting(
        batch, 10, args.repeats, precision
      )
  found['scoring'] = scoring(128, 8, args.repeats)
  found['training'] = training(64, 8, args.repeats)
  print(json.dumps(found))


if __name__ == '__main__':
  main()
