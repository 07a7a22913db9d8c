"""A class that stands out is judged again, by the rate of the others."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from babam_jax import errors, sanitize_folder
from babam_jax.defenses import any_size
from babam_jax.sanitizer import (
  findings,
  folder,
  one_class,
  order,
  output,
  output_files,
  sanitize,
  whole_folder,
)
from babam_jax.sanitizer.one_class import CLOSER

CLEAN, FAINT, HIGH = (8, 52), 164, 225  # gray levels
FAINT_PICTURES = 12


@pytest.fixture(autouse=True)
def brightness_is_the_score(monkeypatch):
  """A judge whose scores are known: dark is clean."""

  def score(model, pictures):
    return np.array([views[0].mean() / 255 for views in pictures])

  monkeypatch.setattr(any_size, 'score', score)


def write(path, level, rng):
  pixels = np.full((64, 64, 3), level, np.uint8)
  pixels[:8] += rng.integers(0, 9, (8, 64, 3), np.uint8)
  Image.fromarray(pixels).save(path)


@pytest.fixture
def untrusted(tmp_path):
  """Eleven honest classes; in `eve` twelve pictures score higher than nearly
  all others, two of them so high that they are flagged at once."""
  rng, root = np.random.default_rng(0), tmp_path / 'in'
  for name in (
    'ann',
    'bob',
    *(f'cy{i}' for i in range(7)),
    'eve',
    'fay',
    'gus',
  ):
    (root / name).mkdir(parents=True)
    for i in range(20 if name == 'eve' else 12):
      write(root / name / f'{i:02d}.png', rng.integers(*CLEAN), rng)
  for i in range(FAINT_PICTURES):
    write(root / 'eve' / f'{i:02d}.png', HIGH if i < 2 else FAINT + i, rng)
  # What is noised at once takes the name that others of the same stem want.
  for name in ('01.webp', '01.bmp', '05.jpg'):
    stem = name.split('.')[0]
    shutil.copy(root / 'eve' / f'{stem}.png', root / 'eve' / name)
  (root / 'eve' / '01.png').unlink()
  write(root / 'eve' / '01.webp', FAINT, rng)
  return root


def settings_of(action, **more):
  return {'action': action, 'detectors': ['perturbation'], 'seed': 3} | more


def tree(root):
  return {
    path.relative_to(root).as_posix(): path.read_bytes()
    for path in root.rglob('*')
    if path.is_file()
  }


def table(found):
  with open(found.scores, encoding='utf-8', newline='') as file:
    return {row['path']: row for row in csv.DictReader(file)}


def others_threshold(rows):
  """That of 1 % of the 132 pictures of the other classes."""
  scores = [float(r['score']) for r in rows.values() if r['class'] != 'eve']
  return float(np.quantile(scores, 0.99))


def test_more_is_flagged_in_a_class_that_stands_out(untrusted, tmp_path):
  before = tree(untrusted)
  found = sanitize_folder(
    untrusted, tmp_path / 'out', **settings_of('drop'), fpr=0.01
  )
  rows = table(found)
  threshold = others_threshold(rows)
  high = [
    path
    for path, row in rows.items()
    if row['class'] == 'eve' and float(row['score']) > threshold
  ]
  assert len(high) >= FAINT_PICTURES
  flagged = [path for path, row in rows.items() if row['flagged'] == 'true']
  assert flagged == high and found.flagged == len(high)
  assert found.suspicious_classes == ['eve']
  for path in before:
    assert (tmp_path / 'out' / path).exists() == (path not in high)
  closer = [path for path in high if rows[path]['note'] == CLOSER]
  assert len(closer) == len(high) - 2
  assert {rows[path]['action'] for path in high} == {'dropped'}
  assert {rows[path]['output'] for path in high} == {''}
  summary = json.loads(found.summary.read_text())
  assert summary['closer_threshold'] == threshold
  (suspect,) = summary['suspicious_classes']
  assert suspect['flagged'] == len(high)
  assert suspect['flagged_closer'] == len(high) - 2
  assert f'score above {threshold:.3g}' in found.report.read_text()
  assert tree(untrusted) == before


@pytest.mark.parametrize('action', ['drop', 'perturb'])
def test_it_is_as_if_the_threshold_had_been_lower(action, untrusted, tmp_path):
  """The same bytes for the class as by that threshold at once."""
  twice = sanitize_folder(untrusted, tmp_path / 'twice', **settings_of(action))
  threshold = others_threshold(table(twice))
  once = sanitize_folder(
    untrusted, tmp_path / 'once', **settings_of(action), threshold=threshold
  )
  assert tree(tmp_path / 'twice' / 'eve') == tree(tmp_path / 'once' / 'eve')
  mine, theirs = table(twice), table(once)
  for path, row in mine.items():
    if row['class'] == 'eve':
      assert row | {'note': ''} == theirs[path]
  others = tmp_path / 'twice' / 'ann'
  assert tree(others) == tree(untrusted / 'ann')  # no closer look at these


def test_a_report_writes_no_pictures(untrusted, tmp_path):
  found = sanitize_folder(untrusted, tmp_path / 'out', **settings_of('report'))
  assert found.flagged >= FAINT_PICTURES
  assert set(tree(tmp_path / 'out')) == {
    'report.html',
    'scores.csv',
    'summary.json',
  }


@pytest.mark.parametrize(
  'chosen', [{'threshold': 0.7}, {'fpr': 0.001}], ids=['given', 'too few']
)
def test_without_a_rate_of_the_others_the_threshold_stays(
  chosen, untrusted, tmp_path
):
  """The user's own threshold; or a rate that 132 pictures cannot have."""
  found = sanitize_folder(
    untrusted, tmp_path / 'out', **settings_of('drop'), **chosen
  )
  assert found.suspicious_classes == ['eve'] and found.flagged <= 2
  summary = json.loads(found.summary.read_text())
  assert summary['closer_threshold'] is None
  assert 'A closer look has' not in found.report.read_text()


class Killed(BaseException):
  pass


def killed_at(method, before):
  """Is not called more often than `before` times."""

  def call(*args):
    nonlocal before
    if not before:
      raise Killed
    before -= 1
    return method(*args)

  return call


@pytest.mark.parametrize(
  'action,owner,name,before',
  [
    # Two are flagged at once.
    ('perturb', output_files.OutputFiles, 'write_png', 2),
    ('perturb', output_files.OutputFiles, 'write_png', 6),
    ('perturb', one_class.OneClass, 'remove_kept', 0),
    ('drop', output_files.OutputFiles, 'remove', 0),
    ('drop', output_files.OutputFiles, 'remove', 3),
    ('drop', findings, 'summary', 0),
  ],
)
def test_killed_during_the_closer_look(
  action, owner, name, before, untrusted, tmp_path, monkeypatch
):
  options = settings_of(action)
  sanitize_folder(untrusted, tmp_path / 'whole', **options)
  with monkeypatch.context() as patched:
    patched.setattr(owner, name, killed_at(getattr(owner, name), before))
    with pytest.raises(Killed):
      sanitize_folder(untrusted, tmp_path / 'out', **options)
  sanitize_folder(untrusted, tmp_path / 'out', **options)
  assert_same(tmp_path / 'out', tmp_path / 'whole')


def assert_same(root, other):
  found, expected = tree(root), tree(other)
  del found['report.html'], expected['report.html']  # name their folders
  assert found == expected


def test_parts_leave_the_closer_look_to_the_end(untrusted, tmp_path):
  sanitize_folder(untrusted, tmp_path / 'whole', **settings_of('drop'))
  asked = order.order(
    untrusted,
    tmp_path / 'out',
    detectors=['perturbation'],
    pirm='general',
    action='drop',
    visible='drop',
    threshold=None,
    fpr=None,
    calibrate=None,
    epsilon=order.DEFAULT_EPSILON,
    link=False,
    seed=3,
  )
  for number in (2, 1):
    whole_folder.part(asked, folder.Part(number, 2))
  kept = tmp_path / 'out' / 'eve' / '07.png'
  assert kept.exists()
  whole_folder.whole(asked, 'again')
  assert not kept.exists()
  assert_same(tmp_path / 'out', tmp_path / 'whole')


def test_a_class_that_changes_meanwhile(untrusted, tmp_path, monkeypatch):
  again = sanitize.judge_again

  def changed(*args):
    write(untrusted / 'eve' / '19.png', 1, np.random.default_rng(1))
    return again(*args)

  with monkeypatch.context() as patched:
    patched.setattr(sanitize, 'judge_again', changed)
    with pytest.raises(errors.UserError, match='eve has changed since'):
      sanitize_folder(untrusted, tmp_path / 'out', **settings_of('drop'))
  assert output.how_far(tmp_path / 'out') == (12, 12)


@pytest.mark.parametrize('action', ['drop', 'perturb'])
def test_links_never_reach_the_input(action, untrusted, tmp_path):
  before = tree(untrusted)
  options = settings_of(action, link=True)
  found = sanitize_folder(untrusted, tmp_path / 'out', **options)
  assert found.flagged >= FAINT_PICTURES
  assert tree(untrusted) == before
  names = {row['output'] for row in table(found).values()} - {''}
  written = tree(tmp_path / 'out').keys() - {
    'report.html',
    'scores.csv',
    'summary.json',
  }
  assert written == names


def test_several_victims_one_without_a_folder(untrusted, tmp_path):
  """Pictures that lie in no class folder are a class, too."""
  shutil.copytree(untrusted / 'eve', untrusted / 'bad \\ näme')
  for path in (untrusted / 'ann').iterdir():
    shutil.copy(path, untrusted / path.name)
  for i in range(FAINT_PICTURES):
    write(untrusted / f'{i:02d}.png', FAINT, np.random.default_rng(i))
  found = sanitize_folder(untrusted, tmp_path / 'out', **settings_of('drop'))
  rows = table(found).values()
  flagged = {row['class'] for row in rows if row['note'] == CLOSER}
  assert flagged == {'.', 'eve', 'bad \\\\ näme'}
  assert set(found.suspicious_classes) == flagged


def test_what_is_flagged_for_a_visible_trigger_stays_as_it_was(
  untrusted, tmp_path, monkeypatch
):
  """Only what it is flagged for is told."""
  treat = one_class.OneClass.treat

  def with_trigger(one, *args):
    one._records = [
      dataclasses.replace(r, flagged=True, kind='pattern', place=[0, 0, 1, 1])
      if r.path == 'eve/07.png'
      else r
      for r in one._records
    ]
    return treat(one, *args)

  monkeypatch.setattr(one_class.OneClass, 'treat', with_trigger)
  found = sanitize_folder(untrusted, tmp_path / 'out', **settings_of('drop'))
  row = table(found)['eve/07.png']
  assert (row['kind'], row['note']) == ('perturbation and pattern', '')
  assert table(found)['eve/08.png']['note'] == CLOSER
