"""How this process computes on a CPU: two settings, for speed alone.

`python -m benchmarks.settings` measures them; a user's own choice in the
environment is left alone. The commands make them when they start. Importing
the package does not: a program of its own calls `babam_jax.configure_cpu()`.
"""

import ctypes
import os
import sys

_LIBRARY_FLAG = '--xla_cpu_experimental_ynn_fusion_type'
# The parameters of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def configure() -> None:
  """Has convolutions stay with XLA, and freed memory with the process.

  Sets `XLA_FLAGS`, which JAX reads when it first computes: call it before
  that, be it before or after `import jax`. With both settings crafting is a
  quarter faster; the process keeps its largest memory until it ends. What the
  user has set of `XLA_FLAGS`' YNNPACK option, `MALLOC_...` and
  `GLIBC_TUNABLES` stays.
  """
  _keep_convolutions_in_xla()
  _reuse_memory()


def _keep_convolutions_in_xla() -> None:
  """By default XLA hands convolutions to YNNPACK, which needs up to five times
  as long as XLA's own. Matrix products stay there: it is faster for them."""
  flags = os.environ.get('XLA_FLAGS', '')
  if flags and not flags.lstrip().startswith('-'):
    return  # it names a file of flags, which is the user's
  if _LIBRARY_FLAG not in flags:
    flags = f'{flags} {_LIBRARY_FLAG}=-individual_convolution'
    os.environ['XLA_FLAGS'] = flags.strip()


def _reuse_memory() -> None:
  """Has malloc keep large blocks instead of returning them to the kernel.

  XLA allocates what a step needs at its start and frees it at the end. As a
  rule that means new pages for each step, which the kernel must zero: a tenth
  of a crafting step, and most of an element-wise operation.
  """
  chosen = ('MALLOC_', 'GLIBC_TUNABLES')
  if sys.platform != 'linux' or any(x.startswith(chosen) for x in os.environ):
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # glibc has it
  if mallopt is not None:
    mallopt(_ARENA_MAX, 1)  # all threads share what was freed
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
