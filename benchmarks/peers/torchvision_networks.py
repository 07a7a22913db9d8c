"""The peer of `benchmarks.networks`: torchvision on the same work.

  python benchmarks/peers/torchvision_networks.py --model=resnet18

Forward: evaluation, no gradients. Training: one step of SGD with momentum,
everything trains. Prints images per second. Needs torch and torchvision.
"""

import argparse
import json
import time

import torch
import torchvision


def main() -> None:
  """Times one network."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--model', required=True)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--size', type=int, default=224)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--threads', type=int, default=2)
  args = parser.parse_args()
  torch.set_num_threads(args.threads)
  options = {'init_weights': False} if args.model == 'inception_v3' else {}
  model = getattr(torchvision.models, args.model)(
    weights=None, num_classes=12, **options
  )
  images = torch.rand(args.batch, 3, args.size, args.size)
  labels = torch.arange(args.batch) % 12
  optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
  entropy = torch.nn.functional.cross_entropy

  def forward() -> None:
    with torch.inference_mode():
      model(images)

  def train() -> None:
    optimizer.zero_grad()
    output = model(images)
    if isinstance(output, tuple):
      loss = entropy(output[0], labels) + 0.4 * entropy(output[1], labels)
    else:
      loss = entropy(output, labels)
    loss.backward()
    optimizer.step()

  found = {}
  for name, step, mode in (
    ('forward', forward, False),
    ('training', train, True),
  ):
    model.train(mode)
    step()
    times = []
    for _ in range(args.repeats):
      start = time.perf_counter()
      step()
      times.append(time.perf_counter() - start)
    found[name] = args.batch / sorted(times)[len(times) // 2]
  print(json.dumps({'torch': torch.__version__, **found}))


if __name__ == '__main__':
  main()
