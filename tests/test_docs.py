"""The README and the pages: short enough, true, and without dead ends."""

import ast
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys

import pytest
from conftest import REPOSITORY

import babam_jax as bb
from babam_jax.cli import verbs
from babam_jax.config import schema

DOCS = REPOSITORY / 'docs'
PAGES = sorted(
  path
  for path in (*REPOSITORY.glob('*.md'), *DOCS.rglob('*.md'))
  if not {'_build', 'generated'} & set(path.parts)
)
LONGEST_README = 8 << 10  # bytes


def _figures():
  """The script that makes the README's table."""
  path = DOCS / 'figures.py'
  spec = importlib.util.spec_from_file_location('figures', path)
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


figures = _figures()


def page(path):
  return path.read_text('utf-8')


def test_the_readme_is_one_page():
  assert len(figures.README.read_bytes()) <= LONGEST_README


def test_the_readme_has_the_figures_of_the_results():
  text = page(figures.README)
  assert figures.in_readme(text) == text, 'python -m docs.figures'


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
  text = re.sub(r'```.*?```', '', page(path), flags=re.S)
  for target in re.findall(r'\]\(([^)#\s]+)[^)]*\)', text):
    if not target.startswith(('http:', 'https:', 'mailto:')):
      assert (path.parent / target).exists(), target


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_files_that_are_named_are_there(path):
  roots = ('babam_jax', 'benchmarks', 'configs', 'launch', 'results', 'tests')
  if path.name == 'CHANGELOG.md':
    return  # of files that were
  for name in re.findall(
    rf'(?<!}})`((?:{"|".join(roots)})/[\w./-]+)`', page(path)
  ):
    assert (REPOSITORY / name).exists() or list(REPOSITORY.glob(f'{name}.*')), (
      name
    )


# --- Commands ---


@pytest.fixture(scope='module')
def known_flags():
  """The flags of each command, from its help."""
  found = {}
  for verb in (*verbs.VERBS, 'pirm personalize'):
    line = [sys.executable, '-m', 'babam_jax.cli', *verb.split(), '--help']
    told = subprocess.run(line, capture_output=True, text=True, check=True)
    names = re.findall(r'^  --(?:\[no\])?([\w]+)', told.stdout, re.M)
    found[verb] = set(names)
  return found


def commands(text):
  """The verb and the options of every command in a text."""
  text = text.replace('\\\n', ' ')
  pattern = r'(?:python -m launch\.(\w+)|\bbabam) (?=[\w-])([^`\n]*)'
  for module, rest in re.findall(pattern, text):
    try:
      words = shlex.split(rest, comments=True)
    except ValueError:
      continue  # it goes on in another line
    verb = {'main': 'run', '': words[0] if words else ''}.get(module, module)
    if not module:
      words = words[1:]
    if words[:1] == ['personalize']:
      verb, words = 'pirm personalize', words[1:]
    if verb in (*verbs.VERBS, 'pirm personalize'):
      yield verb, [word for word in words if word.startswith('--')]


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_commands_have_these_options(path, known_flags):
  for verb, options in commands(page(path)):
    for option in options:
      name, _, value = option.lstrip('-').partition('=')
      name = name.rstrip('.,;:)*')
      if name == 'config' and value.startswith('configs/'):
        file = value.partition(':')[0].rstrip('.,;:)')
        assert (REPOSITORY / file).exists(), option
      if name.startswith('config.') and not name.startswith('config.study'):
        field = name.removeprefix('config.')
        assert is_field(field), option
      elif '.' not in name:
        known = known_flags[verb] | {'help', 'config'}
        assert name in known or name.removeprefix('no') in known, option


def is_field(name):
  node = schema.default_config()
  for part in name.split('.'):
    if part not in node:
      return False
    node = node[part]
  return True


def test_commands_are_found():
  """Or the test above would say nothing."""
  found = list(commands(page(REPOSITORY / 'README.md')))
  first = ['--config=configs/orl_multiclass.py', '--workdir=runs/orl']
  assert ('run', first) in found and len(found) >= 3


# --- Examples ---


def test_the_library_as_the_readme_has_it():
  """Every call names what there is, with arguments that it takes."""
  (code,) = re.findall(r'```python\n(.*?)```', page(figures.README), re.S)
  calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
  assert len(calls) >= 8
  for call in calls:
    owner, _, name = ast.unparse(call.func).rpartition('.')
    if not owner:
      continue  # Python's own
    made = {'pirm': bb.Pirm, 'bb': bb}.get(owner)
    if made is None:  # a method of what is made in place
      made = getattr(bb, re.fullmatch(r'bb\.(\w+)\(.*\)', owner)[1])
    given = [None] * (len(call.args) + (made is not bb))  # and `self`
    named = {word.arg: None for word in call.keywords}
    inspect.signature(getattr(made, name)).bind(*given, **named)


IMPORT = r'^from ((?:babam_jax|configs)[\w.]*) import \(?([\w, ]+)\)?$'


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_what_examples_import_is_there(path):
  """But for the files that the page has one write."""
  blocks = re.findall(
    r'```(?:python|\{code-cell\} python)\n(.*?)```', page(path), re.S
  )
  for module, names in re.findall(IMPORT, '\n'.join(blocks), re.M):
    if f'`{module.rpartition(".")[2]}.py`' in page(path):
      continue
    found = importlib.import_module(module)
    for name in filter(None, map(str.strip, names.split(','))):
      if not hasattr(found, name):
        importlib.import_module(f'{module}.{name}')


def test_whole_examples_are_python():
  """Those that begin with a docstring or an import."""
  whole = 0
  for path in PAGES:
    for block in re.findall(r'```python\n(.*?)```', page(path), re.S):
      if block.startswith(('"""', 'import ')):
        ast.parse(block)
        whole += 1
  assert whole >= 5


# --- Figures ---


NUMBER = r'(?<![\w.,])\d+\.\d+(?![\w]|\.\d)'


def _numbers(path):
  """The numbers of a file as pages write them, rates also in percent."""
  if path.suffix == '.md':
    return set(re.findall(NUMBER, page(path)))
  found = set()

  def walk(value):
    if isinstance(value, dict):
      value = list(value.values())
    if isinstance(value, list):
      for one in value:
        walk(one)
    elif isinstance(value, float):
      for number in (abs(value), 100 * abs(value)):
        found.update(f'{number:.{digits}f}' for digits in (1, 2, 3))

  content = json.loads(path.read_text('utf-8'))
  walk(content)
  if path.name == 'metrics.json' and 'rows' in content:
    walk(_means(content['rows']))
  if path.name == 'config.json':  # the settings that a page speaks of
    found |= {str(n) for n in re.findall(r'\d+\.\d+', page(path))}
  return found


def _means(rows):
  """Of the rows whose labels end alike, such as those of one defense on
  several pairs of people."""
  by_ending = {}
  for row in rows:
    ending = row['label'].partition(', ')[2]
    by_ending.setdefault(ending, []).append(row['columns'])
  return [
    sum(columns[name]['mean'] for columns in found) / len(found)
    for ending, found in by_ending.items()
    if ending
    for name in found[0]
    if all(isinstance(c[name]['mean'], float) for c in found)
  ]


def named_results(text):
  """The files of the results that a page names."""
  for name in set(re.findall(r'results/[\w./-]+\w', text)):
    place = REPOSITORY / name
    here = place.rglob('*') if place.is_dir() else [place]
    for path in here:
      if path.suffix in ('.md', '.json') and path.is_file():
        yield path


def _said(path):
  """A page without what it includes, and the numbers in the results that it
  names."""
  text = re.sub(r'```\{include\}.*?```', '', page(path), flags=re.S)
  return text, set().union(*map(_numbers, named_results(page(path))))


@pytest.mark.parametrize(
  'path',
  [*sorted((DOCS / 'results').glob('*.md')), DOCS / 'method.md'],
  ids=lambda path: path.name,
)
def test_figures_are_those_of_the_results(path):
  """Whatever has a decimal point is in a file that the page names."""
  text, known = _said(path)
  text = re.sub(r'\(?(?:[Ss]ection )?4\.\d+\)?', '', text)  # of the paper
  assert not [n for n in re.findall(NUMBER, text) if n not in known]


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_rates_are_those_of_the_results(path):
  """On all other pages, too."""
  text, known = _said(path)
  assert not [n for n in re.findall(NUMBER + '(?= ?%)', text) if n not in known]
