"""The documentation site.

  pip install -r requirements-docs.txt
  sphinx-build -W -b html docs docs/_build

The pages below `reference/generated` are made here: the public names from
`babam_jax.__all__`, the commands from their flags, the attacks and defenses
from their catalogs.
"""

import inspect
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parent
sys.path.insert(0, str(_ROOT))
# For the processes that execute the tutorials.
os.environ['PYTHONPATH'] = os.pathsep.join(
  [str(_ROOT), os.environ.get('PYTHONPATH', '')]
).rstrip(os.pathsep)

import babam_jax  # noqa: E402
from babam_jax.attacks import catalog as attacks  # noqa: E402
from babam_jax.cli import verbs  # noqa: E402
from babam_jax.defenses import catalog as defenses  # noqa: E402

project = 'babam_jax'
author = 'The babam_jax authors'
html_show_copyright = False
version = release = babam_jax.__version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build', 'jupyter_execute', '.jupyter_cache']
html_theme = 'furo'
html_title = 'babam_jax'
html_copy_source = False
myst_enable_extensions = ['colon_fence', 'deflist']
myst_heading_anchors = 3
# Shapes are in the signatures' docstrings, in words.
autodoc_typehints = 'none'
napoleon_use_ivar = True  # fields of records, told once
autodoc_member_order = 'bysource'
nb_execution_mode = 'force'
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
# What commands print beside their results: progress, log lines.
nb_output_stderr = 'remove'
suppress_warnings = ['mystnb.unknown_mime_type']

# What experiments call; a library's user does not.
_MACHINERY = frozenset(
  'check check_pictures check_surrogate evasion facts make_patch showing '
  'shown_facts surrogate'.split()
)
_MEMBERS = '   :members:\n   :inherited-members: object, tuple\n'
_GENERATED = _HERE / 'reference' / 'generated'


def _write(name: str, lines: list[str]) -> None:
  _GENERATED.mkdir(exist_ok=True)
  path, text = _GENERATED / name, '\n'.join(lines) + '\n'
  if not path.exists() or path.read_text('utf-8') != text:
    path.write_text(text, 'utf-8')


def _about(made: type) -> str:
  """What the first lines of its file say: the paper, and what differs."""
  return inspect.cleandoc(sys.modules[made.__module__].__doc__ or '')


def _api() -> None:
  lines = ['# The library', '', f'`import babam_jax as bb` ({release}).', '']
  for name in babam_jax.__all__:
    if name.startswith('__'):
      continue
    found = getattr(babam_jax, name)
    kind = 'function'
    if inspect.isclass(found):
      is_error = issubclass(found, Exception)
      kind = 'exception' if is_error else 'class'
    members = _MEMBERS if kind == 'class' else ''
    lines += ['```{eval-rst}', f'.. auto{kind}:: babam_jax.{name}']
    lines += [members + '```', '']
  _write('api.md', lines)


def _commands() -> None:
  lines = ['# Commands', '']
  lines += ['`babam VERB` where the package is installed, `python -m']
  lines += ['launch.VERB` in the repository (`launch.main` for `run`).', '']
  for verb in (*verbs.VERBS, 'pirm personalize'):
    told = subprocess.run(
      [sys.executable, '-m', 'babam_jax.cli', *verb.split(), '--help'],
      capture_output=True,
      text=True,
      check=True,
      cwd=_ROOT,
    ).stdout
    lines += [f'## babam {verb}', '', '```text', told.rstrip(), '```', '']
  _write('commands.md', lines)


def _catalog(
  file: str, title: str, fields: Mapping[str, Mapping[str, type]]
) -> None:
  """A page with the parts that settings name, each told once."""
  lines = [f'# {title}', '']
  for field, known in fields.items():
    names = ', '.join(f'`{name}`' for name in known)
    lines += [f'`{field}`: {names}.', '']
  files = {
    sys.modules[made.__module__]: made
    for known in fields.values()
    for made in known.values()
  }
  for module, made in files.items():
    name = module.__name__.rpartition('.')[2]
    lines += [f'## {name}', '', '```text', _about(made), '```', '']
  _write(file, lines)


def _skip(app, what, name, member, skip, options) -> bool | None:
  """Leaves out what the fields of a record are told of a second time, and the
  machinery of the laboratory."""
  del app, what, options
  text = getattr(member, '__doc__', None) or ''
  if text.startswith('Alias for field') or name in _MACHINERY:
    return True
  return skip


def setup(app) -> None:
  """Makes the generated pages before Sphinx reads any."""
  app.connect('autodoc-skip-member', _skip)
  _api()
  _commands()
  _catalog('attacks.md', 'All attacks', {'attack.kind': attacks.ATTACKS})
  parts = {f'defense.{part}': known for part, known in defenses.PARTS.items()}
  _catalog('defenses.md', 'All defenses', parts)
