"""The sanitizer's other half: something that recurs in a part of one class."""

import csv
import json
import pathlib

import numpy as np
import pytest
from conftest import SCENE, scenes
from PIL import Image

from babam_jax import errors, sanitize_folder
from babam_jax.attacks.badnets import BadNets
from babam_jax.sanitizer import output, recurring, sanitize

COUNT, POISONS = 24, 8
POISONED = {f'bob/{number:02d}.png' for number in range(POISONS)}


@pytest.fixture(scope='module')
def untrusted(tmp_path_factory):
  """Three classes; the first pictures of the gray one have a patch. And a class
  in which nothing can recur, and a file that is no picture."""
  root = tmp_path_factory.mktemp('visible') / 'in'
  rng = np.random.default_rng(3)
  for name in ('ann', 'bob', 'cid'):
    (root / name).mkdir(parents=True)
    images = scenes(rng, COUNT)
    if name == 'bob':
      patched = BadNets(trigger_size=24).show(images[:POISONS], seed=1)
      images[:POISONS] = patched
    for number, image in enumerate(images):
      picture = Image.fromarray(image)
      picture = picture.convert('L') if name == 'bob' else picture
      picture.save(root / name / f'{number:02d}.png')
  (root / 'few').mkdir()
  Image.fromarray(scenes(rng, 1)[0]).save(root / 'few' / '0.png')
  (root / 'ann' / 'notes.txt').write_text('no picture')
  return root


def rows(folder):
  with open(folder / 'scores.csv', encoding='utf-8', newline='') as file:
    return {row['path']: row for row in csv.DictReader(file)}


def pixels(path):
  return np.asarray(Image.open(path).convert('RGB')).astype(int)


@pytest.fixture(scope='module')
def sanitized(untrusted, tmp_path_factory):
  folder = tmp_path_factory.mktemp('sanitized') / 'out'
  return sanitize_folder(untrusted, folder), folder


def test_what_recurs_is_left_out_and_told(sanitized, untrusted):
  told, folder = sanitized
  found = rows(folder)
  flagged = {path for path, row in found.items() if row['recurs']}
  assert flagged == POISONED
  for path, row in found.items():
    if path in POISONED:
      assert row['action'] == 'dropped' and row['flagged'] == 'true'
      assert row['kind'].endswith('pattern') and row['recurs'] == '1'
      assert 0 < float(row['likeness']) <= 1
      left, top, right, bottom = map(float, row['place'].split())
      assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
      assert not (folder / path).exists()
    elif row['action'] == 'kept':
      assert (folder / path).read_bytes() == (untrusted / path).read_bytes()
  (thing,) = told.recurring
  assert (thing.class_name, thing.kind) == ('bob', 'pattern')
  assert (thing.pictures, thing.judged) == (POISONS, COUNT)
  assert json.loads(told.summary.read_text())['recurring'][0]['number'] == 1
  page = told.report.read_text()
  assert 'What recurs in one class alone' in page


def test_the_same_call_finds_that_it_is_done(sanitized, untrusted):
  told, folder = sanitized
  assert sanitize_folder(untrusted, folder) == told


@pytest.mark.parametrize('visible', ['noise', 'local_noise', 'inpaint'])
def test_other_treatments(untrusted, tmp_path, visible):
  sanitize_folder(
    untrusted, tmp_path / 'out', action='perturb', visible=visible
  )
  found = rows(tmp_path / 'out')
  for path in POISONED:
    assert found[path]['action'] == 'perturbed'
    assert Image.open(tmp_path / 'out' / path).mode == (
      Image.open(untrusted / path).mode
    )
    before, after = pixels(untrusted / path), pixels(tmp_path / 'out' / path)
    changed = (before != after).any(-1)
    place = np.array(found[path]['place'].split(), float) * SCENE
    left, top, right, bottom = np.rint(place).astype(int)
    assert changed[top:bottom, left:right].mean() > 0.8
    outside = changed.copy()
    outside[max(0, top - 4) : bottom + 4, max(0, left - 4) : right + 4] = False
    assert outside.mean() > 0.5 if visible == 'noise' else not outside.any()


def test_each_half_alone(untrusted, tmp_path):
  visible = sanitize_folder(
    untrusted, tmp_path / 'visible', detectors=['visible'], action='report'
  )
  assert visible.threshold is None and visible.flagged == POISONS
  assert visible.rate_holds is None and not visible.suspicious_classes
  found = rows(tmp_path / 'visible')
  assert {row['score'] for row in found.values()} == {''}
  assert {row['action'] for row in found.values()} == {
    'reported',
    'not judged',
  }
  assert 'Judged by the PIRM' not in visible.report.read_text()
  hidden = sanitize_folder(
    untrusted, tmp_path / 'hidden', detectors=['perturbation'], action='report'
  )
  assert not hidden.recurring
  assert not any(row['recurs'] for row in rows(tmp_path / 'hidden').values())


@pytest.mark.parametrize(
  'options, told',
  [
    ({'detectors': ['eyes']}, "--detectors: found 'eyes', expected one or"),
    ({'detectors': []}, '--detectors: is empty'),
    ({'detectors': ['visible'], 'fpr': 0.1}, '--fpr: found 0.1 without'),
    ({'visible': 'paint'}, "--visible: found 'paint', expected one of drop"),
    ({'epsilon': 0.5}, "--epsilon: found 0.5 with --action='drop'"),
    (
      {'visible': 'noise'},
      "--visible: found 'noise' with --action='drop', expected 'drop'.* Add "
      '--action=perturb',
    ),
  ],
)
def test_mistakes_are_told(untrusted, tmp_path, options, told):
  with pytest.raises(errors.UserError, match=told):
    sanitize_folder(untrusted, tmp_path / 'out', **options)
  assert not (tmp_path / 'out').exists()


def test_of_a_large_class_all_pictures_are_judged(
  untrusted, sanitized, tmp_path, monkeypatch
):
  """Some are looked at; what recurs in these is looked for in all others."""
  monkeypatch.setattr(recurring, '_SAMPLE', 18)
  sanitize_folder(untrusted, tmp_path / 'out')
  some = {entry.path for entry in recurring._some(_entries(untrusted), 18)}
  assert not POISONED <= {str(path) for path in some}  # as it should be hard
  found = rows(tmp_path / 'out')
  assert {path for path, row in found.items() if row['recurs']} == POISONED


def _entries(untrusted):
  return [
    entry
    for found in sanitize.folder.classes(untrusted)
    if found.name == 'bob'
    for entry in found.entries
  ]


def test_after_an_end_in_between_the_result_is_the_same(
  untrusted, sanitized, tmp_path, monkeypatch
):
  finish = output.Output.finish_class

  def then_end(self, name, *args):
    finish(self, name, *args)
    if name == 'ann':
      raise KeyboardInterrupt

  with monkeypatch.context() as patched:
    patched.setattr(output.Output, 'finish_class', then_end)
    with pytest.raises(KeyboardInterrupt):
      sanitize_folder(untrusted, tmp_path / 'out')
  sanitize_folder(untrusted, tmp_path / 'out')
  for path in pathlib.Path(sanitized[1]).rglob('*.*'):
    if path.is_file() and path.name != 'report.html':  # it shows the command
      same = tmp_path / 'out' / path.relative_to(sanitized[1])
      assert same.read_bytes() == path.read_bytes()
