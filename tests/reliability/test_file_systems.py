"""Disks that lack what others have: the work is the same, or one line says
what is missing, and nothing is lost."""

import errno
import os
import shutil
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from commands import CASES, check_done, fingerprints
from conftest import write_faces
from disturbing import Fail, JumpingClock
from PIL import Image

_HERE = os.path.dirname(__file__)
SLOW = [pytest.param(x, marks=pytest.mark.slow) for x in ('run', 'pirm')]


def _check_same(tmp_path, name, before):
  """Checks that a disturbed command does as an undisturbed one."""
  case, inputs, folder = CASES[name], tmp_path / 'inputs', tmp_path / 'here'
  case.prepare(inputs)
  expected = case.undisturbed(inputs, tmp_path / 'whole')
  case.fresh(inputs, folder)
  check_done(case.start(inputs, folder, before=before).wait())
  assert case.result(folder) == expected


@pytest.mark.parametrize('name', ['sanitize', *SLOW])
def test_a_disk_without_hard_links(tmp_path, name):
  _check_same(tmp_path, name, Fail(('os.link',), errno.EPERM))


@pytest.mark.parametrize('name', ['sanitize', *SLOW])
def test_a_clock_that_jumps(tmp_path, name):
  _check_same(tmp_path, name, JumpingClock(0))


@pytest.mark.parametrize('name', ['sanitize', 'artifacts gc', *SLOW])
@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks(tmp_path, name, number):
  """Two runs could write to one file: it is refused, and left as it was."""
  case, inputs, folder = CASES[name], tmp_path / 'inputs', tmp_path / 'here'
  case.prepare(inputs)
  case.fresh(inputs, folder)
  before = sorted(folder.rglob('*'))
  fail = Fail(('fcntl.flock',), number)
  ended = case.start(inputs, folder, before=fail).wait()
  assert ended.returncode == 2, ended.stderr
  lines = [line for line in ended.stderr.splitlines() if 'error: ' in line]
  assert len(lines) == 1 and 'cannot be locked' in lines[0]
  assert 'Traceback' not in ended.stderr
  assert sorted(folder.rglob('*')) == before
  check_done(case.start(inputs, folder).wait())
  case.result(folder)


@pytest.fixture
def folding_disk(tmp_path):
  """A folder on a disk that tells no case."""
  pytest.importorskip('mfusepy')
  if not shutil.which('fusermount3') or not os.path.exists('/dev/fuse'):
    pytest.skip('needs FUSE (fuse3)')
  below, mounted = tmp_path / 'below', tmp_path / 'mounted'
  below.mkdir()
  mounted.mkdir()
  line = [sys.executable, f'{_HERE}/folding_disk.py', below, mounted]
  server = subprocess.Popen(line, stdin=subprocess.DEVNULL)
  deadline = time.monotonic() + 20
  while not os.path.ismount(mounted):
    if server.poll() is not None or time.monotonic() > deadline:
      server.kill()
      pytest.skip('FUSE cannot mount here')
    time.sleep(0.05)
  yield mounted
  subprocess.run(['fusermount3', '-u', mounted], check=True)
  server.wait()


def _noise(path, seed):
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (70, 70, 3), np.uint8)
  Image.fromarray(pixels).save(path)


def _start_sanitizer(folder, source, *options):
  arguments = [f'--input={source}', '--output=out', *options]
  case = CASES['sanitize']._replace(arguments=lambda inputs: arguments)
  return case.start(source, folder).wait()


def test_a_disk_that_tells_no_case(tmp_path, folding_disk):
  source = tmp_path / 'in' / 'Zoë'
  source.mkdir(parents=True)
  _noise(source / 'IMG_1.JPG', 1)
  _noise(source / 'img_1.png', 2)
  _noise(source / 'img_1.jpg.png', 3)
  before = fingerprints(tmp_path / 'in')
  options = ('--threshold=0', '--action=perturb')
  ended = _start_sanitizer(folding_disk, tmp_path / 'in', *options)
  # All are flagged, and become PNGs: no two have one name.
  check_done(ended)
  pictures = os.listdir(folding_disk / 'out' / 'Zoë')
  assert len(pictures) == 3
  composed = [unicodedata.normalize('NFC', n).casefold() for n in pictures]
  assert len(set(composed)) == 3
  shutil.rmtree(folding_disk / 'out')

  # Names that such a disk takes for one: refused before anything is written.
  (source / unicodedata.normalize('NFD', 'é.png')).write_bytes(b'1')
  (source / unicodedata.normalize('NFC', 'É.png')).write_bytes(b'2')
  ended = _start_sanitizer(folding_disk, tmp_path / 'in')
  assert ended.returncode == 2 and 'for one name' in ended.stderr
  assert 'Traceback' not in ended.stderr
  assert not (folding_disk / 'out').exists()
  for path in source.glob('*'):
    if path.stat().st_size == 1:
      path.unlink()
  assert fingerprints(tmp_path / 'in') == before
  options = ('--link', '--threshold=1')
  ended = _start_sanitizer(folding_disk, tmp_path / 'in', *options)
  assert ended.returncode == 2 and '--link' in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize('name', ['sanitize', 'artifacts gc', 'run'])
def test_all_on_a_disk_that_tells_no_case(tmp_path, folding_disk, name):
  case, inputs = CASES[name], tmp_path / 'inputs'
  case.prepare(inputs)
  expected = case.undisturbed(inputs, tmp_path / 'whole')
  assert case.undisturbed(inputs, folding_disk / 'here') == expected


def test_an_input_that_cannot_be_written_to(tmp_path):
  case, inputs = CASES['sanitize'], tmp_path / 'inputs'
  case.prepare(inputs)
  expected = case.undisturbed(inputs, tmp_path / 'whole')
  mount = ['mount', '--bind', inputs, inputs]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting a disk needs root')
  try:
    line = ['mount', '-o', 'remount,bind,ro', inputs]
    subprocess.run(line, check=True)
    with pytest.raises(OSError):
      (inputs / 'x').touch()
    assert case.undisturbed(inputs, tmp_path / 'again') == expected
  finally:
    subprocess.run(['umount', inputs], check=True)


@pytest.mark.slow
def test_names_of_the_greatest_length(tmp_path):
  """Of people, of their pictures, and of a working folder."""
  people = write_faces(tmp_path / 'inputs' / 'people')
  longest = 'ä' * 126 + 'xyz'
  assert len(os.fsencode(longest)) == 255
  for path in people.glob('person*/*.png'):
    name = path.stem.rjust(251, '0') + path.suffix
    path.rename(path.with_name(name))
  (people / 'person1').rename(people / longest)
  case, folder = CASES['run'], tmp_path / 'here'
  arguments = [
    *case.arguments(tmp_path / 'inputs'),
    f'--config.scenario.source={longest}',
    f'--workdir={longest}',
  ]
  folder.mkdir()
  long = case._replace(arguments=lambda inputs: arguments)
  check_done(long.start(tmp_path / 'inputs', folder).wait())
  assert (folder / longest / 'report.html').is_file()
