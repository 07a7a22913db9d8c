"""Two settings that make this process compute faster on a CPU.

`python -m benchmarks.settings` measures their effect; what the user has set in
the environment is kept. The commands apply them when they start. Importing the
package does not: other programs call `babam_jax.configure_cpu()`.
"""

import ctypes
import os
import sys

from babam_jax import xla_flags

_LIBRARY_FLAG = '--xla_cpu_experimental_ynn_fusion_type'
# The parameters of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def configure() -> None:
  """Keeps convolutions in XLA, and freed memory in the process.

  Sets `XLA_FLAGS`, which JAX reads when it first computes: call this before
  that, no matter whether before or after `import jax`. Both settings together
  make crafting a quarter faster; the process keeps its peak memory until it
  ends. If the user has set the YNNPACK option in `XLA_FLAGS`, `MALLOC_...` or
  `GLIBC_TUNABLES`, that choice is kept.
  """
  _keep_convolutions_in_xla()
  _reuse_memory()


def _keep_convolutions_in_xla() -> None:
  """Keeps convolutions in XLA: in YNNPACK, the default, they take up to five
  times as long. Matrix products stay in YNNPACK, where they are faster."""
  xla_flags.add({_LIBRARY_FLAG: '-individual_convolution'})


def _reuse_memory() -> None:
  """Makes malloc keep large blocks instead of returning them to the kernel.

  XLA allocates what a step needs at its start and frees it at the end. By
  default each step gets new pages, which the kernel must zero: this takes a
  tenth of a crafting step, and most of an element-wise operation.
  """
  chosen = ('MALLOC_', 'GLIBC_TUNABLES')
  if sys.platform != 'linux' or any(x.startswith(chosen) for x in os.environ):
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # only glibc has it
  if mallopt is not None:
    mallopt(_ARENA_MAX, 1)  # all threads share what was freed
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)


def cores() -> int:
  """How many cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
