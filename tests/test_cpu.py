import ctypes
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import REPOSITORY

from babam_jax import cpu

FLAG = '--xla_cpu_experimental_ynn_fusion_type'


@pytest.fixture
def calls(monkeypatch):
  """A C library whose mallopt writes down what it is asked."""
  found = []
  library = types.SimpleNamespace(mallopt=lambda *args: found.append(args))
  monkeypatch.setattr(ctypes, 'CDLL', lambda name: library)
  for name in list(os.environ):
    if name.startswith(('MALLOC_', 'GLIBC_TUNABLES')):
      monkeypatch.delenv(name)
  return found


@pytest.mark.parametrize('before', ['', '--xla_cpu_enable_fast_math=false'])
def test_the_flag_joins_the_users_flags(monkeypatch, calls, before):
  monkeypatch.setenv('XLA_FLAGS', before)
  cpu.configure()
  cpu.configure()  # once is enough
  found = os.environ['XLA_FLAGS'].split()
  assert found == [*before.split(), f'{FLAG}=-individual_convolution']


def test_a_file_of_flags_is_left_alone(monkeypatch, calls):
  monkeypatch.setenv('XLA_FLAGS', '/my/flags.txt')
  cpu.configure()
  assert os.environ['XLA_FLAGS'] == '/my/flags.txt'


@pytest.mark.parametrize('name', ['MALLOC_ARENA_MAX', 'GLIBC_TUNABLES'])
def test_the_users_choices_are_left_alone(monkeypatch, calls, name):
  monkeypatch.setenv('XLA_FLAGS', f'{FLAG}=individual_dot')
  monkeypatch.setenv(name, '4')
  cpu.configure()
  assert os.environ['XLA_FLAGS'] == f'{FLAG}=individual_dot'
  assert calls == []


def test_memory_is_kept_on_linux_with_glibc_only(monkeypatch, calls):
  monkeypatch.setattr(sys, 'platform', 'linux')
  cpu.configure()
  assert len(calls) == 3
  monkeypatch.setattr(ctypes, 'CDLL', lambda name: types.SimpleNamespace())
  cpu.configure()  # musl has no mallopt
  monkeypatch.setattr(sys, 'platform', 'darwin')
  monkeypatch.setattr(ctypes, 'CDLL', None)
  cpu.configure()


CONVOLUTION = """
import jax
import babam_jax
babam_jax.configure_cpu()
x, w = jax.numpy.ones((8, 56, 56, 128)), jax.numpy.ones((3, 3, 128, 128))
orders = 'NHWC', 'HWIO', 'NHWC'
convolve = lambda x, w: jax.lax.conv_general_dilated(
  x, w, (1, 1), 'SAME', dimension_numbers=orders
)
compiled = jax.jit(convolve).lower(x, w).compile().as_text()
assert ' convolution(' in compiled and 'ynn' not in compiled, compiled
"""


def test_it_may_come_after_jax_is_imported():
  subprocess.run(
    [sys.executable, '-c', CONVOLUTION],
    check=True,
    cwd=REPOSITORY,
    env=os.environ | {'XLA_FLAGS': ''},
  )


PROGRAM = """
import sys
import jax, numpy as np
import babam_jax
from babam_jax.models import networks
babam_jax.configure_cpu()
network = networks.Classifier('alexnet', 5, 8)
variables = networks.random_variables('alexnet', 5, 8, jax.random.key(0))
x = np.random.default_rng(0).random((3, 64, 80, 3), np.float32)
def logits(x):
  return network.apply(variables, x)['logits']
found, back = jax.jit(lambda x: jax.vjp(logits, x))(x)
gradient, = jax.jit(lambda b: b(found))(back)
np.savez(sys.argv[1], logits=found, gradient=gradient)
"""


@pytest.mark.slow
def test_neither_setting_changes_results(tmp_path):
  found = []
  for number, environment in enumerate(
    ({}, {'XLA_FLAGS': f'{FLAG}=', 'MALLOC_ARENA_MAX': '8'})
  ):
    path = tmp_path / f'{number}.npz'
    subprocess.run(
      [sys.executable, '-c', PROGRAM, str(path)],
      check=True,
      cwd=REPOSITORY,
      env=os.environ | {'XLA_FLAGS': ''} | environment,
    )
    found.append(np.load(path))
  for name in ('logits', 'gradient'):
    ours, theirs = (x[name] for x in found)
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale)
