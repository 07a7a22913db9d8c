"""A PIRM of one's own: begun from a shipped one, told apart by its key."""

import json
import stat

import jax
import numpy as np
import pytest
import starting
from conftest import write_faces
from PIL import Image

from babam_jax import errors, files
from babam_jax.config import rules
from babam_jax.defenses import pirm
from babam_jax.pirm_training import personal, pirm_stages
from babam_jax.store import artifacts, lab

SMALL = {
  '_KINDS': 2,
  '_POISON_OF_A_KIND': 10,
  '_HOSTS': 6,
  '_CLEAN': 12,
  '_SURROGATES': ({'model': 'alexnet', 'tap': 'pool5'},),
  '_ITERATIONS': (2, 3),
}


@pytest.fixture
def photos(tmp_path):
  rng = np.random.default_rng(0)
  root = tmp_path / 'photos'
  root.mkdir()
  for i in range(12):
    coarse = rng.integers(0, 256, (12, 15, 3), np.uint8)
    image = Image.fromarray(coarse).resize((150, 140))
    image.save(root / f'{i}.png')
  return root


@pytest.fixture
def small(monkeypatch):
  for name, value in SMALL.items():
    monkeypatch.setattr(personal, name, value)


def trained(root, tmp_path, key):
  config = personal.config(str(root), 'general', key)
  config.pirm.epochs, config.pirm.processed_copies = 1, 1
  experiment = rules.check(config)
  store = artifacts.Store(tmp_path / f'store{key}')
  return pirm_stages.train_pirm(lab.Lab(experiment, store, tmp_path))[0]


@pytest.mark.usefixtures('small')
def test_a_key_makes_a_pirm_of_its_own(tmp_path, photos):
  general = pirm.load_pirm('general')
  ours, again, other = (
    trained(photos, tmp_path / name, key)
    for name, key in (('a', 1), ('b', 1), ('c', 2))
  )
  first = pirm.FIRST_LAYERS['residual']
  leaves = [
    jax.tree.leaves(model.variables) for model in (ours, again, other, general)
  ]
  for one, same, *_ in zip(*leaves, strict=True):
    np.testing.assert_array_equal(one, same)
  kernels = [
    np.ravel(model.variables['params'][first]['kernel'])
    for model in (ours, other, general)
  ]
  for i in range(3):
    for j in range(i):  # filters of unlike origin have nothing in common
      assert abs(np.corrcoef(kernels[i], kernels[j])[0, 1]) < 0.2
  layer = ours.variables['params']['conv3']['kernel']
  start = general.variables['params']['conv3']['kernel']
  assert np.corrcoef(np.ravel(layer), np.ravel(start))[0, 1] > 0.9
  assert len(ours.calibration.clean)


def test_keys_draw_kinds_of_poison():
  kinds = [
    personal.config('photos', 'general', key).pirm.kinds for key in (1, 2)
  ]
  assert kinds[0] != kinds[1] and len(kinds[0]) == personal._KINDS
  assert kinds[0] == personal.config('other', 'general', 1).pirm.kinds
  for kind in kinds[0]:
    assert personal._EPS[0] <= kind['eps'] <= personal._EPS[1]


def test_the_command_refuses_in_one_line(tmp_path):
  line = ['python', '-m', 'launch.pirm', 'personalize']
  line.append(f'--output={tmp_path / "mine.npz"}')
  for options, expected in (
    ([], '--root: is missing'),
    ([f'--root={tmp_path / "none"}'], '--root: no folder'),
    ([f'--root={tmp_path}', '--start_from=shipped'], 'start_from'),
    (['surplus'], "unexpected 'surplus'"),
  ):
    done = starting.run([*line, *options])
    assert done.returncode == 2 and expected in done.stderr, done.stderr
    assert done.stderr.count('\n') == 1
  assert not list(tmp_path.iterdir())


def test_too_few_photographs(tmp_path):
  write_faces(tmp_path / 'photos', 1, 4)
  line = ['python', '-m', 'launch.pirm', 'personalize']
  line += [f'--root={tmp_path / "photos"}', f'--output={tmp_path / "mine.npz"}']
  done = starting.run(line)
  assert done.returncode == 2 and 'config.pirm.root' in done.stderr


@pytest.mark.slow
def test_a_killed_command_continues_with_its_key(tmp_path, photos):
  line = ['python', '-m', 'launch.pirm', 'personalize']
  line += [f'--root={photos}', f'--output={tmp_path / "mine.npz"}']
  running = starting.Command(line)
  state = tmp_path / '.mine.npz.unfinished'
  while running.is_running(0.5) and not (state / 'key.json').exists():
    pass
  running.is_running(20)
  running.send(9)
  running.wait()
  key = files.read_json(state / 'key.json')
  assert stat.S_IMODE(state.stat().st_mode) == 0o700
  done = starting.Command(line).wait(2400)
  assert done.returncode == 0, done.stderr
  assert not state.exists()
  model = pirm.load(tmp_path / 'mine.npz')
  assert str(key) not in json.dumps(model.meta)
  assert 'config' not in model.meta and 'kinds' not in model.meta['holdout']
  with pytest.raises(errors.UserError):
    pirm.load(photos / '0.png')
