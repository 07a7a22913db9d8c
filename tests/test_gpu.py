import importlib.metadata
import importlib.util
import os

import pytest

from babam_jax import gpu


@pytest.fixture
def plugin(monkeypatch):
  """As if JAX's plugin for CUDA was installed."""
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setattr(importlib.metadata, 'version', lambda name: '0.11.2')


def test_without_a_plugin_nothing_is_set(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  monkeypatch.setenv('XLA_FLAGS', '--xla_dump_to=x')
  gpu.configure()
  assert os.environ['XLA_FLAGS'] == '--xla_dump_to=x'


def test_the_flags_join_the_users(monkeypatch, plugin):
  monkeypatch.setenv('XLA_FLAGS', '--xla_gpu_enable_triton_gemm=true')
  gpu.configure()
  gpu.configure()  # once is enough
  assert os.environ['XLA_FLAGS'].split() == [
    '--xla_gpu_enable_triton_gemm=true',
    '--xla_gpu_experimental_enable_fusion_autotuner=false',
  ]


def test_a_jax_that_may_not_know_them_is_left_alone(monkeypatch, plugin):
  monkeypatch.setattr(importlib.metadata, 'version', lambda name: '0.12.0')
  monkeypatch.setenv('XLA_FLAGS', '')
  gpu.configure()
  assert os.environ['XLA_FLAGS'] == ''


def test_a_file_of_flags_is_left_alone(monkeypatch, plugin):
  monkeypatch.setenv('XLA_FLAGS', '/my/flags.txt')
  gpu.configure()
  assert os.environ['XLA_FLAGS'] == '/my/flags.txt'
