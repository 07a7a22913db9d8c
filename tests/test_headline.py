"""What the project claims, on real faces. Slow: run with `-m slow`."""

import json
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY


def run(config, folder, *arguments):
  subprocess.run(
    [
      sys.executable,
      '-m',
      'launch.main',
      f'--config=configs/{config}.py',
      f'--workdir={folder}',
      f'--artifacts={folder / "artifacts"}',
      *arguments,
    ],
    cwd=REPOSITORY,
    check=True,
  )
  return json.loads((folder / 'metrics.json').read_text())


def check(metrics, asr, base):
  models, found = metrics['models'], metrics['pirm']['training_set']
  assert models['malicious']['asr'] >= asr
  assert models['malicious']['asr_unpatched'] <= base
  assert models['protected']['asr'] <= 0.10
  for before in ('clean', 'malicious'):
    drop = models[before]['accuracy'] - models['protected']['accuracy']
    assert drop <= 0.024
  assert found['tpr'] >= 0.95 and found['fpr'] <= 0.02


@pytest.mark.slow
def test_orl(tmp_path):
  start = time.monotonic()
  metrics = run('orl_multiclass', tmp_path)
  assert time.monotonic() - start < 600
  assert metrics['models']['clean']['accuracy'] >= 0.95
  check(metrics, asr=0.95, base=0.05)


@pytest.mark.slow
@pytest.mark.parametrize('config', ['lfw_multiclass', 'lfw_binary'])
def test_lfw(tmp_path, config):
  root = REPOSITORY.parent / 'shared' / 'data' / 'lfw12'
  if not root.is_dir():
    pytest.skip('needs ../shared/data/lfw12')
  metrics = run(config, tmp_path, f'--config.data.root={root}')
  check(metrics, asr=0.90, base=0.10)
