"""What a run ran on: written beside its results."""

import importlib.metadata
import os
import pathlib
import platform
from typing import Any

import jax

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def _processor() -> str:
  info = pathlib.Path('/proc/cpuinfo')
  if info.exists():
    for line in info.read_text('utf-8').splitlines():
      if line.startswith('model name'):
        return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()


def _device(device: jax.Device) -> str:
  name = f'{device.platform} {device.id}'
  known = device.device_kind.lower() == device.platform
  return name if known else f'{name} ({device.device_kind})'


def describe(command: str) -> dict[str, Any]:
  """Command, versions and hardware, for `environment.json` and the report."""
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {
    'command': command,
    'python': platform.python_version(),
    **versions,
    'processor': _processor(),
    'cores': os.cpu_count(),
    'devices': ', '.join(map(_device, jax.local_devices())),
  }
