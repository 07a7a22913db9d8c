"""Weak scaling over virtual devices, and an estimate for real ones.

  python -m benchmarks.scaling

Each device has the same number of pictures, so each number of devices has more
work. On a machine with fewer cores than devices the pictures per second cannot
grow with them: a loss of speed is then the cost of dividing the work. The
estimate for GPUs is arithmetic on counted operations and bytes; no GPU was
measured. Writes `results/cluster/scaling.json` and `.md`. Ten minutes.
"""

import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
from typing import Any

import jax
import numpy as np
from absl import app, flags

from babam_jax import files
from babam_jax.attacks import poison_set
from babam_jax.defenses import pirm
from babam_jax.experiment import environment
from babam_jax.training import parallel
from benchmarks import crafting, networks, timing

_DEVICES = flags.DEFINE_integer('devices', 0, 'Measure this many; print JSON.')
_RESULTS = flags.DEFINE_string('results', 'results/cluster', 'A folder.')
_COUNTS = (1, 2, 4, 8)
# Pictures for each device and step.
_PER_DEVICE = {'crafting': 6, 'scoring': 16, 'training': 4}
_SIZE = 224
# For the estimate: float32 on tensor cores (TF32) at a share of the peak that
# such networks reach, and a ring all-reduce, whose links are NVLink in a node
# and InfiniBand between nodes. These are assumptions, not measurements.
_GPU_FLOPS = 156e12 * 0.3
_BYTES_PER_SECOND = {'in a node': 200e9, 'between nodes': 20e9}
_STEP_OVERHEAD = 100e-6  # seconds to start a step
_GPUS_PER_NODE = 8
_GPU_BATCH = {'crafting': 256, 'training': 128}  # pictures for each GPU
_GPUS = (1, 2, 4, 8, 16, 32, 64)


def measure() -> dict[str, float]:
  """Pictures (crafting: image-iterations) per second on all devices here."""
  devices = parallel.num_devices()
  rng = np.random.default_rng(0)
  surrogate = poison_set.SurrogateCollision(tap='fc7').surrogate(0)
  rows = _PER_DEVICE['crafting'] * devices
  found = {'crafting': crafting.ours(surrogate, rows)}

  model = pirm.load(pirm.SHIPPED['shipped'])
  rows = _PER_DEVICE['scoring'] * devices
  images = rng.integers(0, 256, (2 * rows, _SIZE, _SIZE, 3), np.uint8)
  times = timing.seconds(lambda: pirm.score(model, images, rows), 3)
  found['scoring'] = len(images) / statistics.median(times)

  rows = _PER_DEVICE['training'] * devices
  step = networks.Ours('alexnet', rows).training
  found['training'] = rows / statistics.median(timing.seconds(step, 3))
  return {name: round(rate, 2) for name, rate in found.items()}


def in_a_process(devices: int) -> dict[str, float]:
  """`measure`, in a process with `devices` virtual devices."""
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.scaling', f'--devices={devices}'],
    env=os.environ
    | {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'},
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.strip().splitlines()[-1])


def counted() -> dict[str, dict[str, float]]:
  """Operations for a picture, and bytes that all devices exchange in a step."""
  surrogate = poison_set.SurrogateCollision(tap='fc7').surrogate(0)
  both = crafting.gflop_per_image_iteration(surrogate) * 1e9
  params = surrogate.variables['params']
  size = sum(x.nbytes for x in jax.tree.leaves(params))
  return {
    # Forward, and back to the picture; nothing is exchanged between pairings.
    'crafting': {'operations': both, 'bytes': 0},
    # Back to the parameters too; their gradients are summed.
    'training': {'operations': 1.5 * both, 'bytes': size},
  }


def expected_step(work: str, gpus: int) -> float:
  """Seconds of a step on `gpus` GPUs: computing, then a ring all-reduce."""
  each = counted()[work]
  computing = _GPU_BATCH[work] * each['operations'] / _GPU_FLOPS
  link = 'between nodes' if gpus > _GPUS_PER_NODE else 'in a node'
  exchanged = 2 * (gpus - 1) / gpus * each['bytes']
  return computing + exchanged / _BYTES_PER_SECOND[link] + _STEP_OVERHEAD


def as_markdown(record: dict[str, Any]) -> str:
  """Both tables, with their assumptions."""
  lines = [
    '# Devices: measured on virtual ones, expected of real ones',
    '',
    f'By `{record["environment"]["command"]}`, on '
    f'{record["environment"]["cores"]} cores of '
    f'{record["environment"]["processor"]}. Pictures per second (crafting: '
    'image-iterations) of all devices together, with the same number of '
    'pictures for each; in brackets the share of the rate on one device. All '
    'devices share the cores. Where one device keeps them all busy (crafting), '
    '1.00 means that dividing the work costs nothing; where it does not '
    '(scoring, whose convolutions are small), two devices are faster than '
    'one. In training every device updates all 57 million parameters, for 4 '
    'pictures each: with 4 and 8 devices that is most of the work.',
    '',
    '| devices | crafting | scoring | training, AlexNet unfrozen |',
    '|---|---|---|---|',
  ]
  first = record['measured']['1']
  for devices, rates in record['measured'].items():
    cells = [f'{r:.1f} ({r / first[name]:.2f})' for name, r in rates.items()]
    lines.append(f'| {devices} | {" | ".join(cells)} |')
  lines += [
    '',
    '## An estimate for GPUs (not measured: there was none)',
    '',
    f'A step takes the time to compute {_GPU_BATCH["crafting"]} (crafting) or '
    f'{_GPU_BATCH["training"]} (training) pictures on each GPU at '
    f'{_GPU_FLOPS / 1e12:.0f} TFLOP/s (30 % of the TF32 peak of an A100), and '
    'that of a ring all-reduce of the gradients at '
    f'{_BYTES_PER_SECOND["in a node"] / 1e9:.0f} GB/s in a node of '
    f'{_GPUS_PER_NODE} and {_BYTES_PER_SECOND["between nodes"] / 1e9:.0f} GB/s '
    'between nodes, without overlap, and 0.1 ms to start. Counted: '
    + '; '.join(
      f'{work} {each["operations"] / 1e9:.2f} GFLOP a picture, '
      f'{each["bytes"] / 1e6:.0f} MB a step'
      for work, each in record['counted'].items()
    )
    + '.',
    '',
    '| GPUs | crafting, image-iterations/s | efficiency | training, pictures/s '
    '| efficiency |',
    '|---|---|---|---|---|',
  ]
  for gpus, each in record['expected'].items():
    cells = ' | '.join(
      f'{each[work]["rate"]:,.0f} | {each[work]["efficiency"]:.2f}'
      for work in ('crafting', 'training')
    )
    lines.append(f'| {gpus} | {cells} |')
  return '\n'.join([*lines, ''])


def _expected() -> dict[str, Any]:
  table: dict[str, Any] = {}
  for gpus in _GPUS:
    table[str(gpus)] = {}
    for work, batch in _GPU_BATCH.items():
      seconds = expected_step(work, gpus)
      table[str(gpus)][work] = {
        'rate': round(gpus * batch / seconds),
        'efficiency': round(expected_step(work, 1) / seconds, 3),
      }
  return table


def main(argv) -> None:
  """Measures all numbers of devices, each in a process of its own."""
  del argv
  if _DEVICES.value:
    if parallel.num_devices() != _DEVICES.value:
      raise ValueError('set XLA_FLAGS, as in_a_process does')
    print(json.dumps(measure()))
    return
  measured: dict[str, list[dict[str, float]]] = {}
  for _ in range(3):  # in turn: the machine is shared
    for count in _COUNTS:
      measured.setdefault(str(count), []).append(in_a_process(count))
  record = {
    'measured': {
      count: {
        name: statistics.median(r[name] for r in runs) for name in runs[0]
      }
      for count, runs in measured.items()
    },
    'all_runs': measured,
    'counted': counted(),
    'expected': _expected(),
    'environment': environment.describe(
      shlex.join(['python', '-m', 'benchmarks.scaling'])
    ),
  }
  results = pathlib.Path(_RESULTS.value)
  files.write_json(results / 'scaling.json', record)
  files.write_text(results / 'scaling.md', as_markdown(record))
  print(as_markdown(record))


if __name__ == '__main__':
  app.run(main)
