"""An untrusted folder through `launch.sanitize`, with all that people have."""

import concurrent.futures
import csv
import filecmp
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest
import starting
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from babam_jax import errors
from babam_jax.defenses import any_size, calibration, pirm, tiling
from babam_jax.sanitizer import (
  findings,
  folder,
  names,
  one_class,
  output,
  output_files,
  picture,
  report,
  room,
  sanitize,
  whole_folder,
)
from babam_jax.sanitizer.record import Record

LONG = 'x' * 250
LONGEST = 'ä' * 127 + 'b'  # 255 bytes
ENVIRONMENT = os.environ | {'PYTHONPATH': str(REPOSITORY)}


def faces(folder, count, size=(70, 90), mode='RGB', suffix='.png', seed=0):
  """Smooth pictures, each another."""
  rng = np.random.default_rng(seed)
  folder.mkdir(parents=True, exist_ok=True)
  for i in range(count):
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)
    image.save(folder / f'{i}{suffix}')


def command(source, output, *options):
  return [
    sys.executable,
    '-m',
    'launch.sanitize',
    f'--input={source}',
    f'--output={output}',
    *options,
  ]


def run_in(folder, source, output, *options):
  return starting.run(command(source, output, *options), cwd=folder)


def run(source, output, *options):
  return run_in(REPOSITORY, source, output, *options)


def rows(output):
  with open(output / 'scores.csv', encoding='utf-8', newline='') as file:
    return {row['path']: row for row in csv.DictReader(file)}


def tree(root):
  """Every file below a folder, with its content."""
  return {
    os.path.relpath(os.path.join(here, name), root): pathlib.Path(
      here, name
    ).read_bytes()
    for here, _, names in os.walk(root)
    for name in names
  }


REPORTS = {'scores.csv', 'summary.json', 'report.html'}
ONE_CLASS = {'settings': {'detectors': ['visible']}, 'classes': 1}


@pytest.fixture(scope='module')
def untrusted(tmp_path_factory):
  """What nobody wants to find in a folder, and some pictures."""
  root = tmp_path_factory.mktemp('untrusted') / 'in'
  faces(root / 'ann', 4)
  faces(root / 'ann' / 'deeper' / 'still', 1, (200, 300), seed=1)
  faces(root / 'bob', 3, (64, 64), 'L', '.jpg', seed=2)
  faces(root / 'figures', 2, (40, 33), 'RGBA', '.webp', seed=3)
  faces(root / 'Jürgen 名', 2, (301, 77), 'P', '.bmp', seed=4)
  faces(root / 'wide', 1, (1500, 40), 'CMYK', '.tif', seed=5)
  bob = root / 'bob'
  good = (root / 'ann' / '0.png').read_bytes()
  (bob / 'zero.jpg').write_bytes(b'')
  (bob / 'half.png').write_bytes(good[: len(good) // 2])
  (bob / 'text.jpg').write_text('no picture')
  (bob / 'misnamed.jpg').write_bytes(good)
  (bob / '0.jpeg').write_bytes((bob / '0.jpg').read_bytes())  # the same stem
  (bob / f'{LONG}.png').write_bytes(good)
  (bob / 'line\nbreak,"quoted".png').write_bytes(good)
  Image.new('RGB', (20, 20)).save(bob / 'small.png')
  frames = [Image.new('RGB', (50, 50), (i, 0, 0)) for i in range(3)]
  frames[0].save(
    bob / 'moving.webp', save_all=True, append_images=frames[1:], lossless=True
  )
  frames[0].save(
    bob / 'phone.jpg', 'MPO', save_all=True, append_images=frames[1:]
  )
  Image.new('1', (9000, 9000)).save(bob / 'bomb.png')
  os.symlink('/etc/hostname', bob / 'outside.png')
  os.symlink(root / 'ann' / '1.png', bob / 'inside.png')
  os.symlink(root / 'ann', bob / 'folder')
  os.symlink('circle.png', bob / 'circle.png')
  os.symlink('nowhere.png', bob / 'broken.png')
  os.mkfifo(bob / 'pipe.png')
  with open(os.fsencode(bob) + b'/\xff\xfe.png', 'wb') as file:
    file.write(good)
  (root / 'empty').mkdir()
  for name, content in LITTER.items():
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(content)
  (bob / 'Icon\r').write_bytes(b'an icon of macOS')
  for name in (b'p\xe9.png', b'p\\xe9.png'):  # two names
    with open(os.fsencode(bob) + b'/' + name, 'wb') as file:
      file.write(good)
  # Their PNGs would be one on a disk that tells no case.
  (bob / 'IMG_1.JPG').write_bytes((bob / '0.jpg').read_bytes())
  (bob / 'img_1.png').write_bytes(good)
  # What its PNG would be called is taken, or too long a name.
  (root / 'figures' / '0.png').mkdir()
  (root / 'figures' / LONGEST).write_bytes(good)
  (root / 'notes.txt').write_text('about the data')
  return root


LITTER = {
  'ann/.DS_Store': b'litter',
  'ann/._0.png': b'\x00\x05\x16\x07 a double of macOS',
  '__MACOSX/0.png': b'another',
  'empty_class/.gitkeep': b'',
}
UNJUDGED = {
  'bob/Icon\r': 'no picture',
  'bob/zero.jpg': 'empty file',
  'bob/half.png': 'unreadable',
  'bob/text.jpg': 'no picture',
  'bob/small.png': 'less than 32',
  'bob/moving.webp': 'animated',
  'bob/bomb.png': 'too many',
  'bob/outside.png': 'leaves the folder',
  'bob/folder': 'a link to a folder',
  'bob/circle.png': 'cannot be looked at',
  'bob/broken.png': 'cannot be looked at',
  'bob/pipe.png': 'no regular file',
  'notes.txt': 'no picture',
}


@pytest.fixture(scope='module')
def sanitized(untrusted, tmp_path_factory):
  """All flagged: the threshold is 0."""
  output = tmp_path_factory.mktemp('sanitized') / 'out'
  before = tree_without_pipes(untrusted)
  done = run(untrusted, output, '--threshold=0', '--action=perturb')
  assert tree_without_pipes(untrusted) == before  # the input is as it was
  return output, done


def tree_without_pipes(root):
  return {
    os.path.join(here, name): os.lstat(os.path.join(here, name))[:9:4]
    for here, _, names in os.walk(root)
    for name in names
  }


def test_what_cannot_be_judged_is_named_and_left_out(sanitized):
  output, done = sanitized
  assert done.returncode == 3, done.stderr
  told = f'not judged, and not in the output: {len(UNJUDGED)} of'
  assert told in done.stderr
  assert 'Traceback' not in done.stderr
  found = rows(output)
  for path, note in UNJUDGED.items():
    assert note in found[path]['note'], path
    assert found[path]['action'] == 'not judged'
    assert not found[path]['score'] and not found[path]['output']
    assert not (output / path).exists()
  summary = json.loads((output / 'summary.json').read_text())
  assert {f['path'] for f in summary['not_judged']} == set(UNJUDGED)
  assert summary['files'] == len(found)
  assert summary['actions']['left out'] == len(LITTER)  # nobody is told
  for path in LITTER:
    assert found[path]['action'] == 'left out'
    assert not (output / path).exists()
  assert summary['flagged'] == len(found) - len(UNJUDGED) - len(LITTER)
  assert found['bob/phone.jpg']['note'] == 'the first of 3 pictures in the file'


def test_the_output_is_the_same_tree_of_pngs(sanitized, untrusted):
  output, _ = sanitized
  found = rows(output)
  written = {row['output'] for row in found.values() if row['output']}
  judged = [row for row in found.values() if row['score']]
  assert len(written) == len(judged)  # nobody wrote over another
  assert (output / 'empty').is_dir()
  for row in judged:
    assert row['flagged'] == 'true' and row['action'] == 'perturbed'
    assert row['output'].endswith('.png')
    if '\\' in row['path']:  # bytes that are no UTF-8
      continue
    before = picture.read(untrusted / row['path'])
    with Image.open(output / row['output']) as after:
      assert after.format == 'PNG'
      assert after.size == before.pixels.shape[1::-1]
      assert (after.mode == 'L') == before.gray
  # The same stem twice: the first in order has it.
  assert found['bob/0.jpeg']['output'] == 'bob/0.png'
  assert found['bob/0.jpg']['output'] == 'bob/0.jpg.png'
  # A folder has it; and names have 255 bytes at most.
  assert found['figures/0.webp']['output'] == 'figures/0.webp.png'
  shortened = found[f'figures/{LONGEST}']['output']
  assert shortened == 'figures/' + 'ä' * 125 + '.png'
  assert set(os.listdir(output)) == REPORTS | {
    'ann', 'bob', 'figures', 'Jürgen 名', 'wide', 'empty', 'empty_class'
  }  # fmt: skip


def test_noise_has_the_scale_of_algorithm_1(sanitized, untrusted):
  """Against a plain version of it, on one class."""
  output, _ = sanitized
  found = {
    p: r for p, r in rows(output).items() if r['class'] == 'ann' and r['score']
  }
  small = {
    path: np.asarray(
      Image.fromarray(picture.read(untrusted / path).pixels).resize(
        (224, 224), Image.Resampling.BILINEAR
      ),
      float,
    )
    for path in found
  }
  mean = np.mean(list(small.values()), 0)
  distances = {path: ((x - mean) ** 2).sum() for path, x in small.items()}
  largest = max(distances.values())
  for path, row in found.items():
    sensitivity = distances[path] / largest
    assert float(row['sensitivity']) == pytest.approx(sensitivity, rel=1e-4)
    assert float(row['noise_scale']) == pytest.approx(
      100 * sensitivity, rel=1e-4
    )


def test_the_report_is_one_page(sanitized):
  output, _ = sanitized
  page = (output / 'report.html').read_text()
  assert page.count('<img') == 2 and 'Not judged' in page
  assert 'src="http' not in page


def test_unflagged_files_are_byte_for_byte_copies(untrusted, tmp_path):
  done = run(untrusted, tmp_path / 'out', '--threshold=1')
  assert done.returncode == 3
  found = rows(tmp_path / 'out')
  kept = [path for path, row in found.items() if row['action'] == 'kept']
  assert len(kept) == len(found) - len(UNJUDGED) - len(LITTER)
  for path in kept:
    if '\\' not in path:
      assert filecmp.cmp(untrusted / path, tmp_path / 'out' / path, False)
      assert not (tmp_path / 'out' / path).is_symlink()


def test_drop_report_and_links(tmp_path):
  source = tmp_path / 'in'
  faces(source / 'ann', 5)
  run(source, tmp_path / 'r', '--action=report')
  scores = [float(row['score']) for row in rows(tmp_path / 'r').values()]
  assert set(os.listdir(tmp_path / 'r')) == REPORTS
  middle = f'--threshold={sorted(scores)[2]}'

  done = run(source, tmp_path / 'd', '--action=drop', middle)
  assert done.returncode == 0, done.stderr
  actions = [row['action'] for row in rows(tmp_path / 'd').values()]
  assert sorted(actions) == ['dropped'] * 2 + ['kept'] * 3
  assert len(os.listdir(tmp_path / 'd' / 'ann')) == 3

  run(source, tmp_path / 'e', '--action=drop', '--threshold=0')
  assert (tmp_path / 'e' / 'ann').is_dir()  # classes keep their numbers

  run(source, tmp_path / 'l', '--action=drop', middle, '--link')
  for name in os.listdir(tmp_path / 'l' / 'ann'):
    linked = tmp_path / 'l' / 'ann' / name
    assert linked.samefile(source / 'ann' / name)


def test_kill_and_continue_gives_the_same_bytes(tmp_path):
  source = tmp_path / 'in'
  for i in range(12):
    faces(source / f'p{i:02d}', 6, (200, 200), seed=i)
  # The report shows the command.
  options = (source, 'out', '--threshold=0', '--action=perturb')
  (tmp_path / 'whole').mkdir()
  done = run_in(tmp_path / 'whole', *options)
  assert done.returncode == 0, done.stderr
  (tmp_path / 'killed').mkdir()
  output = tmp_path / 'killed' / 'out'
  journal = output / '.sanitize-unfinished' / 'classes'
  saved = tmp_path / 'saved'
  shutil.copytree(source / 'p00', saved)
  for wanted in (1, 4, 8):
    process = starting.Command(command(*options), tmp_path / 'killed')
    while process.is_running(0.002):
      if journal.is_dir() and len(os.listdir(journal)) >= wanted:
        process.send(signal.SIGKILL)
    if process.wait().returncode == 0:
      break
    assert not (output / 'summary.json').exists()
  else:
    # Other settings would mix two outputs.
    done = run_in(tmp_path / 'killed', *options, '--epsilon=0.5')
    assert done.returncode == 2 and 'other settings' in done.stderr
    # And so would another input.
    faces(source / 'p00', 7, (200, 200))
    done = run_in(tmp_path / 'killed', *options)
    assert done.returncode == 2 and 'p00 has changed' in done.stderr
    (source / 'p00' / '6.png').unlink()
    for path in saved.iterdir():
      shutil.copy2(path, source / 'p00')
    # A class that is gone, one that has come, one that is not done yet.
    for gone, here in (('p01', 'x'), ('x', 'p01'), ('p11', 'y'), ('y', 'p11')):
      os.rename(source / gone, source / here)
      if here in ('x', 'y'):
        done = run_in(tmp_path / 'killed', *options)
        assert done.returncode == 2 and 'has changed since' in done.stderr
    done = run_in(tmp_path / 'killed', *options)
    assert done.returncode == 0, done.stderr
  found, whole = tree(output), tree(tmp_path / 'whole' / 'out')
  assert found.keys() == whole.keys()
  for path in whole:
    assert found[path] == whole[path], path


@pytest.mark.parametrize(
  'options,told',
  [
    ([], '--input: is missing'),
    (['--input=nowhere', '--output=out'], "--input: no folder 'nowhere'"),
    (['--input={empty}', '--output=out'], '--input: no file in'),
    (['--input={in}', '--output={in}/out'], 'lie in each other'),
    (['--input={in}/ann', '--output={in}'], 'lie in each other'),
    (['--input={in}', '--output={full}'], 'is not empty'),
    (['--input={in}', '--output=out', '--threshold=2'], '--threshold'),
    (['--input={in}', '--output=out', '--threshold=nan'], '--threshold'),
    (['--input={in}', '--output=out', '--epsilon=inf'], '--epsilon'),
    (['--input={in}', '--output=out', '--fpr=0.1', '--threshold=0'], '--fpr'),
    (['--input={in}', '--output=out', '--fpr=1e-6'], '--fpr: found 1e-06'),
    (
      ['--input={in}', '--output=out', '--pirm=shipped', '--fpr=0.01'],
      'has no scores of',
    ),
    (['--input={in}', '--output=out', '--devices=0'], '--devices'),
    (['--input={in}', '--output=out', '--action=pray'], '--action'),
    (['--input={in}', '--output={file}/x'], 'x is a file; expected a folder'),
    (['--input={in}', '--output={file}'], 'x is a file; expected a folder'),
    (['--input={in}', '--output=o', '--calibrate='], '--calibrate: is empty'),
    (['--input={in}', '--output=o', '--pirm='], '--pirm: is empty'),
    (['--input={in}', '--output=o', '--detectors=visible'], 'with one class'),
    (
      ['--input={in}', '--output=o', '--detectors=visible', '--pirm=hardened'],
      '--pirm: found hardened without',
    ),
    (['--input={in}', '--output=o', '--action=report', '--link'], '--link'),
    (
      [
        '--input={in}',
        '--output=o',
        '--action=perturb',
        '--visible=inpaint',
        '--detectors=perturbation',
      ],
      "without the detector 'visible'",
    ),
    (['--input={in}', '--output=o', '--pirm={file}'], 'cannot be read'),
  ],
)
def test_mistakes_are_told_in_one_line(tmp_path, options, told):
  faces(tmp_path / 'in' / 'ann', 1)
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'x').write_text('mine')
  (tmp_path / 'empty' / 'ann').mkdir(parents=True)
  places = {
    '{in}': tmp_path / 'in',
    '{empty}': tmp_path / 'empty',
    '{full}': tmp_path / 'full',
    '{file}': tmp_path / 'full' / 'x',
  }
  for mark, path in places.items():
    options = [option.replace(mark, str(path)) for option in options]
  done = starting.run(starting.python('launch.sanitize', *options), tmp_path)
  assert told in mistake(done)
  assert (tmp_path / 'full' / 'x').read_text() == 'mine'


def mistake(done):
  """The one line that tells it."""
  assert done.returncode == 2, done.stderr
  told = [x for x in done.stderr.splitlines() if x.startswith('error:')]
  assert len(told) == 1 and 'Traceback' not in done.stderr
  return told[0]


def test_a_finished_output_is_called_so(tmp_path):
  source, out = tmp_path / 'in', tmp_path / 'out'
  faces(source / 'ann', 2)
  (source / 'ann' / 'empty.png').write_bytes(b'')
  first = run(source, out)
  assert first.returncode == 3
  before = tree(out)
  # What a kill leaves that comes while the state is being removed.
  (out / '.sanitize-unfinished' / 'classes').mkdir(parents=True)
  again = run(source, out)
  assert again.returncode == 3 and 'is finished' in again.stderr
  assert again.stdout == first.stdout
  assert tree(out) == before and not (out / '.sanitize-unfinished').exists()
  line = mistake(run(source, out, '--action=perturb', '--epsilon=0.5'))
  assert 'finished output of an earlier run, with other settings' in line
  faces(source / 'ann', 1, seed=9)
  assert 'of another input' in mistake(run(source, out))
  assert tree(out) == before


def test_what_an_earlier_run_has_left_is_not_believed(tmp_path):
  """Its journals would say that all is done; and another version's summary."""
  source, out = tmp_path / 'in', tmp_path / 'out'
  faces(source / 'ann', 2)
  first = whole_folder.sanitize_folder(source, out)
  state = out / '.sanitize-unfinished'
  being_made = output.Output(source, tmp_path / 'other', {})
  inventory = folder.inventory(source)
  being_made.begin(inventory)
  record = Record('ann/0.png', 'ann', True, 0.1, action='kept')
  being_made.finish_class('ann', inventory.fingerprints['ann'], [record])
  summary = json.loads(first.summary.read_text())
  del summary['rate_holds']
  first.summary.write_text(json.dumps(summary))
  with pytest.raises(errors.UserError, match='is the finished output'):
    whole_folder.sanitize_folder(source, out)
  shutil.rmtree(out)
  # A kill while it was removed, and a user who removes all but hidden files.
  shutil.copytree(tmp_path / 'other' / '.sanitize-unfinished', state)
  (state / 'settings.json').unlink()
  assert whole_folder.sanitize_folder(source, out).files == 2
  assert sorted(os.listdir(out / 'ann')) == ['0.png', '1.png']


def test_a_full_disk_is_named_by_what_did_not_fit(tmp_path):
  faces(tmp_path / 'in' / 'ann', 4, (700, 700), suffix='.bmp')
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(disk)]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting a disk needs root')
  try:
    line = mistake(run(tmp_path / 'in', disk / 'out', '--threshold=1'))
    assert 'No space left' in line and str(disk / 'out') in line
    assert str(tmp_path / 'in') not in line
  finally:
    subprocess.run(['umount', str(disk)], check=True)


@pytest.mark.parametrize('name', ['scores.csv', 'report.html'])
def test_names_of_the_reports_are_reserved(tmp_path, name):
  faces(tmp_path / 'in' / 'ann', 1)
  faces(tmp_path / 'in' / name, 1)
  done = run(tmp_path / 'in', tmp_path / 'out')
  assert done.returncode == 2 and name in done.stderr
  assert not (tmp_path / 'out').exists()


@pytest.mark.skipif(not os.path.isdir('/dev/shm'), reason='needs /dev/shm')
def test_links_need_one_file_system(tmp_path):
  faces(tmp_path / 'in' / 'ann', 1)
  with tempfile.TemporaryDirectory(dir='/dev/shm') as other:
    if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
      pytest.skip('one file system')
    done = run(
      tmp_path / 'in', pathlib.Path(other, 'out'), '--link', '--threshold=1'
    )
  assert done.returncode == 2 and '--link' in done.stderr
  assert 'Traceback' not in done.stderr


def test_the_threshold_follows_from_the_rate(tmp_path):
  faces(tmp_path / 'in' / 'ann', 3)
  model = pirm.load(pirm.SHIPPED['general'])
  for fpr in (0.01, 0.2):
    run(tmp_path / 'in', tmp_path / f'{fpr}', '--action=report', f'--fpr={fpr}')
    told = json.loads((tmp_path / f'{fpr}' / 'summary.json').read_text())
    used = told['settings']['threshold']
    assert used == calibration.threshold(model.calibration, fpr)
    above = (model.calibration.clean > used).mean()
    assert 0.8 * fpr < above <= fpr


def test_a_pirm_without_rates_uses_its_own_threshold(tmp_path):
  faces(tmp_path / 'in' / 'ann', 2)
  done = run(tmp_path / 'in', tmp_path / 'out', '--pirm=shipped')
  assert done.returncode == 0 and '--threshold=0.5' in done.stderr
  told = json.loads((tmp_path / 'out' / 'summary.json').read_text())
  assert told['settings']['threshold'] == 0.5


def test_lost_transparency_is_told(tmp_path):
  folder = tmp_path / 'in' / 'ann'
  faces(folder, 2)
  with Image.open(folder / '0.png') as picture:
    picture.convert('RGBA').save(folder / 'clear.png')
  assert run(tmp_path / 'in', tmp_path / 'out').returncode == 0
  notes = {path: row['note'] for path, row in rows(tmp_path / 'out').items()}
  assert 'without its transparency' in notes['ann/clear.png']
  assert not notes['ann/0.png']


def test_devices_change_nothing(tmp_path):
  faces(tmp_path / 'in' / 'ann', 20, (150, 150))
  for count in (1, 8):
    options = ('--threshold=0', '--action=perturb', f'--devices={count}')
    done = run(tmp_path / 'in', tmp_path / f'{count}', *options)
    assert done.returncode == 0, done.stderr
  one, eight = rows(tmp_path / '1'), rows(tmp_path / '8')
  for path, row in one.items():
    for name in ('score', 'noise_scale'):
      assert float(eight[path][name]) == pytest.approx(
        float(row[name]), rel=1e-3
      )


def test_one_run_at_a_time(tmp_path):
  faces(tmp_path / 'in' / 'ann', 1)
  told = {'a': 1}
  first = output.Output(tmp_path / 'in', tmp_path / 'out', told)
  first.begin(folder.inventory(tmp_path / 'in'))
  with pytest.raises(errors.UserError, match='another run'):
    output.Output(tmp_path / 'in', tmp_path / 'out', told)
  first.close()


def test_two_names_are_two_rows_and_two_files(sanitized):
  output, _ = sanitized
  found = rows(output)
  written = [row['output'] for row in found.values() if row['output']]
  assert len({names.folded(path) for path in written}) == len(written)
  one, other = found['bob/p\\xe9.png'], found['bob/p\\\\xe9.png']
  assert one['sensitivity'] == other['sensitivity']  # one picture, twice
  places = (b'/bob/p\xe9.png', b'/bob/p\\xe9.png')
  contents = {open(os.fsencode(output) + p, 'rb').read() for p in places}
  assert len(contents) == 2  # with noise of their own


@given(st.binary(min_size=1, max_size=8), st.binary(min_size=1, max_size=8))
def test_no_two_names_have_the_same_text(one, other):
  texts = {names.printable(os.fsdecode(name)) for name in (one, other)}
  assert len(texts) == len({one, other})
  for text in texts:
    text.encode('utf-8')


@given(st.binary(min_size=1, max_size=8))
def test_the_text_of_a_name_leads_back_to_it(name):
  path = pathlib.PurePath(os.fsdecode(name))
  assert names.path_of(names.printable(path)) == path


def test_a_disk_that_tells_no_case(tmp_path, monkeypatch):
  """Its second file would take the place of the first."""
  source, root = tmp_path / 'in', tmp_path / 'out'
  faces(source / 'ann', 1)
  paths = [pathlib.PurePosixPath('ann') / n for n in ('A.png', 'a.png')]
  with monkeypatch.context() as patched:
    patched.setattr(output, '_PROBE_FOLDED', output._PROBE)
    out = output.Output(source, root, {})
    with pytest.raises(errors.UserError, match="'ann/A.png' and 'ann/a.png'"):
      out.begin(folder.Inventory(2, {'ann': ''}, []), [paths])
    assert not root.exists()  # nothing was begun
  # This disk can tell them apart.
  held = folder.Inventory(2, {'ann': ''}, [])
  output.Output(source, root, {}).begin(held, [paths])


C_LOCALE = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}


@pytest.mark.parametrize(
  'name,environment', [(b'caf\xe9', {}), ('café'.encode(), C_LOCALE)]
)
def test_an_input_whose_name_the_locale_lacks(tmp_path, name, environment):
  source = os.fsencode(tmp_path) + b'/' + name
  faces(tmp_path / 'in' / 'ann', 2)
  os.rename(tmp_path / 'in', source)
  done = subprocess.run(
    [*command('', 'out')[:3], b'--input=' + source, b'--output=out'],
    cwd=tmp_path,
    capture_output=True,
    env=ENVIRONMENT | environment | {'PYTHONPATH': str(REPOSITORY)},
  )
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'out' / 'report.html').exists()
  assert len(rows(tmp_path / 'out')) == 2


def test_after_a_mistake_the_right_command_is_taken(tmp_path, monkeypatch):
  (tmp_path / 'empty').mkdir()
  wrong = run(tmp_path / 'empty', tmp_path / 'out')
  assert wrong.returncode == 2 and 'no file in' in wrong.stderr
  faces(tmp_path / 'in' / 'ann', 2)
  monkeypatch.setenv('HOME', str(tmp_path))
  done = run('~/in', '~/out')  # a shell leaves the `~` in an option
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'out' / 'report.html').exists()


def test_an_interrupted_run_says_so_and_continues(tmp_path):
  for i in range(12):
    faces(tmp_path / 'in' / f'p{i:02d}', 32, (200, 200), seed=i)
  for attempt in range(3):
    output = tmp_path / f'out{attempt}'
    process = starting.Command(command(tmp_path / 'in', output))
    journal = output / '.sanitize-unfinished' / 'classes'
    while process.is_running(0.002) and not journal.is_dir():
      pass
    process.send(signal.SIGINT)
    ended = process.wait()
    if ended.returncode:  # on a busy machine it may end before the signal
      break
  assert ended.returncode == 130, ended.stderr
  assert 'Traceback' not in ended.stderr
  assert 'the same command continues' in ended.stderr
  done = run(tmp_path / 'in', output)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('name', ['JAX_PLATFORMS', 'JAX_PLATFORM_NAME'])
def test_a_platform_that_is_not_there(tmp_path, name):
  faces(tmp_path / 'in' / 'ann', 1)
  done = subprocess.run(
    command(tmp_path / 'in', tmp_path / 'out'),
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    env={n: v for n, v in ENVIRONMENT.items() if not n.startswith('JAX_PL')}
    | {name: 'cuda'},
  )
  assert done.returncode == 2 and f'error: {name}=cuda' in done.stderr
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'out').exists()


def test_a_folder_with_one_class_says_what_was_not_looked_for(tmp_path):
  """A trigger recurs in a part of one class, and not in others: there are
  none. Whoever names a folder too high, or too low, must hear of it."""
  faces(tmp_path / 'in' / 'ann', 6)
  done = run(tmp_path / 'in', tmp_path / 'one')
  told = findings.why_not_visible(ONE_CLASS)
  assert done.returncode == 0 and told in done.stderr
  assert told in (tmp_path / 'one' / 'report.html').read_text()
  faces(tmp_path / 'in' / 'bob', 6, seed=1)
  done = run(tmp_path / 'in', tmp_path / 'two')
  assert done.returncode == 0 and told not in done.stderr


TELLING = """
from babam_jax import progress
from babam_jax.cli import sanitize
from babam_jax.sanitizer import findings, whole_folder

name = 'Al\\x1b[31m\\x1b]0;HACKED\\x07\\nerror: all is well'
thing = findings.Thing(name, 1, 'pattern', 5, 9, [])
fields = dict.fromkeys(whole_folder.SanitizedFolder._fields)
fields |= {'unjudged': [], 'suspicious_classes': [name], 'recurring': [thing]}
sanitize._tell(whole_folder.SanitizedFolder(**fields | {'fpr': 0.01}))
progress.say(f'{name} stands out')
"""


def test_names_of_classes_do_nothing_to_the_terminal():
  done = subprocess.run(
    [sys.executable, '-c', TELLING],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )
  lines = done.stdout.splitlines() + done.stderr.splitlines()
  assert len(lines) == 4, lines
  assert all(line.isprintable() for line in lines)


@pytest.mark.usefixtures('as_users_call')
def test_numbers_of_numpy(tmp_path):
  faces(tmp_path / 'in' / 'ann', 1)
  found = whole_folder.sanitize_folder(
    tmp_path / 'in',
    tmp_path / 'out',
    threshold=np.float32(0.5),
    seed=np.int64(1),
  )
  assert found.threshold == 0.5


@pytest.mark.usefixtures('as_users_call')
@pytest.mark.parametrize(
  'choice,told',
  [
    ({'seed': 'a'}, "--seed: found 'a'"),
    ({'seed': -1}, '--seed: found -1'),
    ({'fpr': 'low'}, "--fpr: found 'low', expected a number"),
    ({'epsilon': None}, '--epsilon: found None'),
    ({'detectors': 'visible'}, "--detectors: found the text 'visible'"),
    ({'calibrate': ''}, '--calibrate: is empty'),
  ],
)
def test_wrong_arguments_leave_nothing_behind(tmp_path, choice, told):
  faces(tmp_path / 'in' / 'ann', 1)
  with pytest.raises(errors.UserError, match=re.escape(told)):
    whole_folder.sanitize_folder(tmp_path / 'in', tmp_path / 'out', **choice)
  assert not (tmp_path / 'out').exists()


def test_a_home_that_cannot_be_written_to_is_not_spoken_of(tmp_path):
  faces(tmp_path / 'in' / 'ann', 2)
  environment = {
    name: value
    for name, value in ENVIRONMENT.items()
    if not name.startswith(('JAX_COMPILATION', 'XDG', 'MPL', 'BABAM_CACHE'))
  }
  done = subprocess.run(
    command(tmp_path / 'in', tmp_path / 'out'),
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    env=environment | {'HOME': '/proc'},  # not even root can write there
  )
  assert done.returncode == 0
  expected = ('sanitizing', findings.why_not_visible(ONE_CLASS))
  for line in done.stderr.splitlines():
    assert line.startswith(expected) or not line.strip(), line


def test_nothing_flagged_passes_as_it_is(tmp_path):
  """A class of one, and names that are formulas or no UTF-8."""
  source = tmp_path / 'in'
  faces(source / 'p$\\foo$q', 1)
  faces(source / 'twins', 1)
  twin = (source / 'twins' / '0.png').read_bytes()
  (source / 'twins' / '1.png').write_bytes(twin)
  strange = os.fsencode(source) + b'/Jos\xe9'
  os.mkdir(strange)
  with open(strange + b'/0.png', 'wb') as file:
    file.write(twin)
  options = ('--threshold=0', '--action=perturb')
  done = run(source, tmp_path / 'out', *options)
  assert done.returncode == 0, done.stderr
  found = rows(tmp_path / 'out')
  assert len(found) == 4
  for row in found.values():
    assert float(row['noise_scale']) == 100
  for path in ('p$\\foo$q/0.png', 'twins/0.png', 'twins/1.png'):
    after = picture.read(tmp_path / 'out' / path).pixels
    before = picture.read(source / path).pixels
    assert np.abs(after.astype(int) - before).mean() > 20


@pytest.mark.parametrize('mode', ['i4', 'f4'])
def test_samples_without_a_known_white_are_not_judged(tmp_path, mode):
  values = np.arange(64 * 64).reshape(64, 64) % 255
  Image.fromarray(values.astype(mode)).save(tmp_path / 'a.tif')
  with pytest.raises(picture.UnjudgedError, match='white is not known'):
    picture.read(tmp_path / 'a.tif')


def test_lab_colors_are_colors(tmp_path):
  Image.new('RGB', (64, 64), (200, 10, 10)).save(tmp_path / 'rgb.png')
  lab = Image.merge('LAB', [Image.new('L', (64, 64), v) for v in (90, 200, 99)])
  lab.save(tmp_path / 'lab.tif')
  assert not picture.read(tmp_path / 'lab.tif').gray


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 9))
def test_tiles_cover_a_picture_from_edge_to_edge(height, width, seed):
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (height, width, 3), np.uint8)
  found = tiling.tiles(image[None], 64)[0]
  assert 1 <= len(found) <= 49 and found.shape[1:] == (64, 64, 3)
  first = image[:64, :64]
  np.testing.assert_array_equal(
    found[0][: first.shape[0], : first.shape[1]], first
  )
  np.testing.assert_array_equal(
    found[-1][-1, -1] if min(height, width) >= 64 else 0,
    image[-1, -1] if min(height, width) >= 64 else 0,
  )
  assert np.isin(found, image).all()


@pytest.mark.parametrize(
  'size,share', [((1024, 700), 1.0), ((2048, 64), 0.5), ((2048, 4096), 0.125)]
)
def test_how_much_of_a_large_picture_is_seen(size, share):
  image = np.zeros((*size, 3), np.uint8)
  whole = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size)
  image[:, :, 0], image[:, :, 1] = whole >> 16, whole >> 8 & 255
  image[:, :, 2] = whole & 255
  assert any_size.share_seen('compact', image) == share
  seen = tiling.tiles(image[None], 64).reshape(-1, 3).astype(np.uint32)
  pixels = np.unique(seen @ np.array([1 << 16, 1 << 8, 1], np.uint32))
  assert len(pixels) == share * whole.size


def test_a_class_that_changes_while_it_is_judged(tmp_path, monkeypatch):
  source = tmp_path / 'in'
  faces(source / 'ann', 3)
  chosen = one_class.Settings('perturb', 'drop', 1.0, 0.01, False, 0)
  copy = output_files.OutputFiles.copy

  def changed_before(self, path, link):
    faces(source / 'ann', 3, seed=9)
    copy(self, path, link)

  monkeypatch.setattr(output_files.OutputFiles, 'copy', changed_before)
  model = pirm.load(pirm.SHIPPED['general'])
  out = output.Output(source, tmp_path / 'out', {})
  inventory = folder.inventory(source)
  out.begin(inventory)
  with pytest.raises(errors.UserError, match='has changed while'):
    list(sanitize.run(source, inventory, out, model, chosen))


@pytest.mark.parametrize(
  'found,expected',
  [
    ({}, 'None of 9 pictures looks poisoned by itself.'),
    ({'files': 1}, ''),
    (
      {'flagged': 1},
      '1 of 9 pictures look poisoned. They stand out in no class: a few flags '
      'may be false.',
    ),
    (
      {
        'flagged': 5,
        'look_first': ['ann', 'bob'],
        'rate_holds': False,
        'not_judged': [{'path': 'x', 'note': ''}],
      },
      '5 of 8 pictures look poisoned. Look first at ann, bob. The stated rate '
      'of false flags does not hold here. 1 file could not be judged.',
    ),
    (
      {'classes': 1},
      'None of 9 pictures looks poisoned by itself. Visible triggers were not '
      'looked for.',
    ),
    (
      {'look_first': list('abcde')},
      'None of 9 pictures looks poisoned by itself. But look, as a whole, at '
      'a, b, c and 2 more.',
    ),
  ],
)
def test_the_verdict_on_top_of_the_page(found, expected):
  empty = {
    'files': 10,
    'flagged': 0,
    'actions': {'left out': 1},
    'look_first': [],
    'rate_holds': True,
    'not_judged': [],
    'settings': {'detectors': ['perturbation', 'visible']},
    'classes': 2,
  }
  assert report.verdict(empty | found) == expected


def test_an_input_that_vanishes_before_the_report(tmp_path, monkeypatch):
  """The page would lack its pictures, and nobody would know."""
  source, folder = tmp_path / 'in', tmp_path / 'out'
  faces(source / 'ann', 2)
  summarize = findings.summary

  def then_vanish(*args):
    source.rename(tmp_path / 'gone')
    return summarize(*args)

  with monkeypatch.context() as patched:
    patched.setattr(findings, 'summary', then_vanish)
    with pytest.raises(errors.UserError, match='has changed since'):
      whole_folder.sanitize_folder(source, folder, threshold=0)
  (tmp_path / 'gone').rename(source)
  whole_folder.sanitize_folder(source, folder, threshold=0)
  assert (folder / 'report.html').read_text().count('<img') == 2


def test_scores_are_those_of_each_picture_alone(rng):
  model = pirm.load(pirm.SHIPPED['general'])
  pictures = [
    rng.integers(0, 256, (*size, 3), np.uint8)
    for size in ((64, 64), (40, 300), (500, 460), (128, 65))
  ]
  views = [any_size.views('compact', p) for p in pictures]
  assert [len(found) for found in views] == [1, 1, 2, 1]
  together = any_size.score(model, views)
  alone = [any_size.score(model, [view])[0] for view in views]
  np.testing.assert_allclose(together, alone, rtol=1e-4)
  # One tile is the whole picture: the score of the experiments.
  whole = pirm.score(model, pictures[0][None], 1)
  np.testing.assert_allclose(together[0], whole[0], rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 3]))
def test_noise_at_any_size(height, width, channels):
  image = np.full((1, height, width, channels), 128, np.uint8)

  def perturb(name):
    scales = np.array([10.0])
    return any_size.perturb(
      image, np.array([name]), scales, mode='laplace', seed=0
    )

  found = perturb('a')
  assert found.shape == image.shape and found.dtype == np.uint8
  np.testing.assert_array_equal(found, perturb('a'))
  if image.size > 3000:
    assert np.abs(found.astype(int) - 128).mean() == pytest.approx(10, rel=0.1)
    assert (found != perturb('b')).mean() > 0.8


def test_large_pictures_share_their_room():
  """Never more than there is; one that is larger than all of it goes alone."""
  shared, lock = room.Room(10), threading.Lock()
  now, most = [], []

  def use(wanted):
    with shared.take(wanted):
      with lock:
        now.append(min(wanted, 10))
        most.append(sum(now))
      time.sleep(0.002)
      with lock:
        now.remove(min(wanted, 10))

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(use, [3, 4, 99, 1, 5, 10, 2, 7] * 5))
  assert max(most) <= 10 and not now


@pytest.mark.slow
def test_four_large_pictures_of_16_bits_take_little_memory(tmp_path):
  """Small files; decoded at once they would take 4 GiB."""
  (tmp_path / 'in' / 'ann').mkdir(parents=True)
  for i in range(4):
    levels = np.full((8000, 8000), 20000 + i, np.uint16)
    Image.fromarray(levels).save(tmp_path / 'in' / 'ann' / f'{i}.png')
  program = (
    'import resource, subprocess, sys\n'
    'subprocess.run(sys.argv[1:], check=True)\n'
    'used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n'
    'assert used < 1536 << 10, used\n'
  )
  line = command(tmp_path / 'in', tmp_path / 'out')
  subprocess.run(
    [sys.executable, '-c', program, *line],
    check=True,
    cwd=REPOSITORY,
    env=ENVIRONMENT,
  )


def test_small_classes_are_scored_together(tmp_path, monkeypatch):
  """As each is alone, with as few steps as one class of all."""
  for i in range(40):
    faces(tmp_path / 'in' / f'p{i:02d}', 1, (60 + i, 70), seed=i)
  calls = []

  def counted(model, views):
    calls.append(len(views))
    return score(model, views)

  score = any_size.score
  monkeypatch.setattr(any_size, 'score', counted)
  whole_folder.sanitize_folder(tmp_path / 'in', tmp_path / 'out')
  assert calls == [32, 8]
  monkeypatch.setattr(sanitize, 'IN_MEMORY', 1)
  whole_folder.sanitize_folder(tmp_path / 'in', tmp_path / 'alone')
  together, alone = rows(tmp_path / 'out'), rows(tmp_path / 'alone')
  for path, row in together.items():
    assert float(row['score']) == pytest.approx(
      float(alone[path]['score']), abs=1e-5
    )


def test_a_class_that_stands_out_is_named(tmp_path, rng):
  """All its pictures are flagged; those of the others are not."""
  source, out = tmp_path / 'in', tmp_path / 'out'
  for i in range(3):
    faces(source / f'ann{i}', 4, seed=i)
  (source / 'bob').mkdir()
  for i in range(4):
    pixels = rng.integers(0, 256, (70, 70, 3), np.uint8)
    Image.fromarray(pixels).save(source / 'bob' / f'{i}.png')
  # Beside smooth pictures, noise is suspicious.
  faces(tmp_path / 'trusted' / 'ann', 150, seed=9)
  done = run(source, out, f'--calibrate={tmp_path / "trusted"}')
  assert done.returncode == 0, done.stderr
  assert 'classes whose scores stand out: bob' in done.stdout
  found = json.loads((out / 'summary.json').read_text())
  (suspect,) = found['suspicious_classes']
  assert (suspect['class'], suspect['judged'], suspect['flagged']) == (
    'bob',
    4,
    4,
  )
  rate = found['highest_clean_rate']
  assert 0.01 < rate < 0.05  # the rate of the default, and its uncertainty
  assert suspect['p_value'] == pytest.approx(rate**4, rel=1e-6, abs=0)
  assert found['rate_holds'] is True
  page = (out / 'report.html').read_text()
  assert page.index('Classes that stand out') < page.index('What was found')
  assert 'which comes with babam_jax: whoever wants to evade it' in page
