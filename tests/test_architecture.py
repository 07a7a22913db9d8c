import ast
import importlib
import subprocess
import sys
import types

import jaxtyping
import pytest
from conftest import REPOSITORY

from babam_jax import seeds

ORDER = (
  (
    'errors',
    'seeds',
    'files',
    'locks',
    'memory',
    'progress',
    'settings',
    'invocation',
    'cpu',
    'gpu',
    'xla_flags',
  ),
  ('data', 'models'),
  ('training',),
  ('recurrence',),
  ('attacks', 'defenses'),
  ('evaluation',),
  ('config',),
  ('store',),
  ('pirm_training',),
  ('experiment', 'sanitizer'),
  ('runs',),
  ('cli',),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def imported(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      yield from (f'{node.module}.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)


def test_imports_run_one_way():
  root = REPOSITORY / 'babam_jax'
  checked = 0
  for path in root.rglob('*.py'):
    here = path.relative_to(root).parts[0].removesuffix('.py')
    if here == '__init__':
      continue
    for name in imported(path):
      if name.startswith('babam_jax.'):
        there = name.split('.')[1]
        assert LEVEL[there] <= LEVEL[here], f'{path} imports {name}'
        checked += 1
      assert not name.startswith(('launch', 'configs')), f'{path}: {name}'
  assert checked > 50


def test_shapes_are_checked():
  """In the tests: at each call, those that the signature names."""
  with pytest.raises(jaxtyping.TypeCheckError):
    seeds.id_hashes(['no array'])


def test_only_parallel_knows_devices_and_only_checkpoint_knows_orbax():
  for path in (REPOSITORY / 'babam_jax').rglob('*.py'):
    text = path.read_text()
    assert ('pmap(' in text) == (path.name == 'parallel.py'), path
    assert ('import orbax' in text) == (path.name == 'checkpoint.py'), path


def our_modules(tree):
  """The names under which a file knows our modules."""
  found = {}
  for node in ast.walk(tree):
    if not isinstance(node, ast.ImportFrom) or not node.module:
      continue
    if node.module.split('.')[0] not in ('babam_jax', 'configs', 'launch'):
      continue
    package = importlib.import_module(node.module)
    for alias in node.names:
      thing = getattr(package, alias.name, None)
      if thing is None:
        thing = importlib.import_module(f'{node.module}.{alias.name}')
      if isinstance(thing, types.ModuleType):
        found[alias.asname or alias.name] = thing
  return found


def test_what_benchmarks_use_is_there():
  """They run for hours, and so in no other test."""
  checked = 0
  for path in (REPOSITORY / 'benchmarks').glob('*.py'):
    tree = ast.parse(path.read_text())
    modules = our_modules(tree)
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        if module is not None:
          assert hasattr(module, node.attr), f'{path}:{node.lineno}'
          checked += 1
  assert checked > 100


def test_what_takes_long_to_load_waits_until_it_is_needed():
  """Together they take more than a second, at the start of every command."""
  rare = {
    'matplotlib',
    'orbax.checkpoint',
    'scipy.ndimage',
    'scipy.optimize',
    'scipy.stats',
    'sklearn',
  }
  code = (
    'import sys, babam_jax.experiment.pipeline, babam_jax.cli.sanitize; '
    f'print(sorted({rare!r} & set(sys.modules)))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == '[]'
