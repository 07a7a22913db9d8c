import ast

from conftest import REPOSITORY

ORDER = (
  ('cpu', 'errors', 'seeds', 'files', 'progress'),
  ('data', 'models'),
  ('training',),
  ('attack', 'defense', 'baselines'),
  ('evaluation',),
  ('experiment', 'sanitizer'),
  ('sweep',),
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


def test_only_parallel_knows_devices_and_only_checkpoint_knows_orbax():
  for path in (REPOSITORY / 'babam_jax').rglob('*.py'):
    text = path.read_text()
    assert ('pmap(' in text) == (path.name == 'parallel.py'), path
    assert ('import orbax' in text) == (path.name == 'checkpoint.py'), path
