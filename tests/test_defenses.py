"""Every defense and every attack through the whole experiment, on small
synthetic people; BA-BAM against those who know it."""

import importlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPOSITORY, SMALL_RUN
from test_pipeline import load

from babam_jax import errors, files
from babam_jax.attacks import adaptive, collision, sleeper_agent
from babam_jax.attacks.catalog import ATTACKS
from babam_jax.config import overrides, rules
from babam_jax.defenses import neural_cleanse, pirm
from babam_jax.defenses.catalog import PARTS
from babam_jax.defenses.fresh_noise import FreshNoise
from babam_jax.defenses.plain import Plain
from babam_jax.evaluation import metrics, study_figures, study_table
from babam_jax.experiment import pipeline
from babam_jax.runs import plan
from configs import adaptive_lfw, bench_lfw, common

pytestmark = pytest.mark.usefixtures('undrawn')
DEFENSES = sorted(
  path.stem for path in (REPOSITORY / 'configs' / 'defenses').glob('[a-z]*.py')
)
# Small, so that all of them together take a minute.
SMALL = {
  'scenario.trusted_fraction': 0.3,
  'defense.strip.overlays': 2,
  'defense.rap.steps': 2,
  'defense.rab.models': 2,
  'defense.smoothing.samples': 3,
  'defense.fine_pruning.epochs': 1,
  'defense.neural_cleanse.rounds': 2,
  'defense.neural_cleanse.epochs': 1,
  'defense.deep_knn.neighbors': 5,
}


@pytest.fixture(scope='module')
def run(faces, tmp_path_factory):
  """Runs an experiment; of SMALL_RUN and SMALL what its parts use counts."""
  shared = tmp_path_factory.mktemp('store')

  def run_with(name, changes, store=shared):
    config = common.get_config()
    fields = SMALL_RUN | SMALL | {'data.root': str(faces)}
    config.update_from_flattened_dict(fields)
    config = overrides.vary(config, changes, 'a test')
    folder = tmp_path_factory.mktemp(name)
    return pipeline.run(config, folder, store, 'test'), folder

  return run_with


@pytest.mark.parametrize(
  'name',
  # What FLARE divides with takes twenty seconds to compile.
  [
    pytest.param(x, marks=[pytest.mark.slow] if x == 'flare' else [])
    for x in DEFENSES
  ],
)
def test_every_defense_runs(run, name):
  fields = importlib.import_module(f'configs.defenses.{name}').FIELDS
  small = {field: x for field, x in SMALL.items() if field in fields}
  found, folder = run(name, fields | small)
  model = found['models']['protected']
  assert 0 <= model['accuracy'] <= 1 and 0 <= model['asr'] <= 1
  assert found['defense_effectiveness'] >= 0
  detects = fields.get('defense.detector') != 'none'
  detects |= 'defense.input_check' in fields
  assert (found['detection']['tpr'] is not None) == detects
  page = (folder / 'report.html').read_text()
  detector = fields.get('defense.detector', 'pirm')
  asks_a_pirm = detector in ('pirm', 'both_halves')
  assert ('<td>holdout<' in page) == bool(found['pirm']) == asks_a_pirm
  says = {
    'rab': ['certified_accuracy'],
    'neural_cleanse': [
      'patch_sizes',
      'success',
      'anomaly_indices',
      'suspicious',
    ],
    'fine_pruning': ['pruned_channels', 'channels'],
  }.get(name, [])
  assert list(found['found']) == says
  assert all(key.replace('_', ' ') in page for key in says)
  cost = found['cost']
  counted = {
    'strip': (0, 2),
    'strip_training': (2, 0),
    'rap': (0, 2),
    'rap_training': (2, 0),
    'rab': (0, 1),
    'smoothing': (0, 2),
    'filtered_inputs': (0, 0),
    'dp_instahide': (0, 0),
    'fine_pruning': (0, 0),
    'neural_cleanse': (0, 0),
    'whole_class_noise': (0, 0),
    'drop_known_poison': (0, 0),
    'ultra_clean': (3, 0),
    'flare': (2, 0),
    'visible_trigger': (0, 0),
  }.get(name, (1, 0))
  assert counted == (
    cost['evaluations_per_training_picture'],
    cost['evaluations_per_input'],
  )


@pytest.mark.parametrize('treatment', ['none', 'drop'])
def test_a_trainer_is_told_what_was_flagged(run, monkeypatch, treatment):
  told = []

  def fit(self, context, examples):
    told.append((context.flags, examples.poisoned))
    return Plain().fit(context, examples)

  monkeypatch.setattr(FreshNoise, 'fit', fit)
  chosen = {'defense.trainer': 'fresh_noise', 'defense.treatment': treatment}
  run('told', chosen)  # by the oracle, who flags poison and nothing else
  ((flags, poisoned),) = told
  assert flags.tolist() == poisoned.tolist()
  assert flags.any() == (treatment == 'none')


def test_a_defense_without_action_leaves_the_model_as_it_was(run):
  found, _ = run('none', {'defense.detector': 'none'})
  models = found['models']
  assert models['protected'] == models['malicious']
  assert found['defense_effectiveness'] == 0.5
  assert found['cost']['seconds'] == 0


CHOSEN = {
  (field.removeprefix('defense.'), value)
  for name in DEFENSES
  for field, value in importlib.import_module(
    f'configs.defenses.{name}'
  ).FIELDS.items()
}
OTHERS = sorted(
  (role, name)
  for role, kinds in PARTS.items()
  for name in kinds
  if (role, name) not in CHOSEN
)


@pytest.mark.parametrize('role,name', OTHERS)
def test_parts_that_no_config_chooses_run_too(run, role, name):
  found, _ = run(name, {f'defense.{role}': name})
  assert 0 <= found['models']['protected']['accuracy'] <= 1


@pytest.mark.parametrize(
  'parts',
  [
    {'trainer': 'dp_instahide', 'repair': 'fine_pruning'},
    {'detector': 'strip', 'treatment': 'noise', 'input_check': 'rap'},
    {'repair': 'neural_cleanse', 'input_check': 'strip'},
    {'trainer': 'smoothing', 'input_check': 'pirm'},
  ],
)
def test_parts_of_defenses_can_be_mixed(run, parts):
  sets = {f'defense.{role}': name for role, name in parts.items()}
  found, _ = run('mixed', sets)
  assert 0 <= found['models']['protected']['asr'] <= 1
  if 'input_check' in parts:
    assert found['cost']['evaluations_per_input'] > 0


@pytest.mark.parametrize('kind', sorted(ATTACKS))
def test_every_attack_runs(run, kind):
  changes = {'attack.kind': kind}
  if kind == 'sleeper_agent':
    changes['attack.retrainings'] = 1
  if kind == 'issba':
    changes['attack.hiding_steps'] = 3
  found, folder = run(kind, changes)
  assert found['poison']['count'] == 6
  assert (folder / 'report.html').exists()
  if hasattr(ATTACKS[kind], 'eps') and kind != 'label_consistent':
    assert 0 < found['poison']['linf'] <= 16  # the change is small
    assert -1 <= found['poison'].get('cosine', 0) <= 1
  else:
    assert found['poison']['linf'] > 0


@pytest.mark.slow
def test_a_killed_sleeper_agent_ends_with_the_same_poison(
  run, tmp_path, monkeypatch
):
  changes = {'attack.kind': 'sleeper_agent', 'models': ('malicious',)}
  match, calls = sleeper_agent._match, []

  def dying(*args):
    calls.append(args)
    if len(calls) == 2:  # in the second of three rounds
      raise KeyboardInterrupt
    return match(*args)

  def poison(found, store):
    key = found['stages']['poison']['key'][:16]
    return files.read_arrays(store / f'poison-{key}' / 'poison.npz')['images']

  with monkeypatch.context() as context:
    context.setattr(sleeper_agent, '_match', dying)
    with pytest.raises(KeyboardInterrupt):
      run('killed', changes, tmp_path / 'killed')
  resumed, _ = run('resumed', changes, tmp_path / 'killed')
  whole, _ = run('whole', changes, tmp_path / 'whole')
  assert resumed['poison'] == whole['poison']
  np.testing.assert_array_equal(
    poison(resumed, tmp_path / 'killed'), poison(whole, tmp_path / 'whole')
  )


@pytest.mark.slow
def test_a_killed_neural_cleanse_keeps_its_patches(run, tmp_path, monkeypatch):
  fields = importlib.import_module('configs.defenses.neural_cleanse').FIELDS
  changes = {**fields, 'models': ('malicious', 'protected')}
  find, searched = neural_cleanse.Reverser.find, []

  def seen(self, label, on_round):
    searched.append(label)
    return find(self, label, on_round)

  def dying(self, label, on_round):
    if len(searched) == 1:
      raise KeyboardInterrupt
    return seen(self, label, on_round)

  with monkeypatch.context() as context:
    context.setattr(neural_cleanse.Reverser, 'find', dying)
    with pytest.raises(KeyboardInterrupt):
      run('killed', changes, tmp_path / 'killed')
  monkeypatch.setattr(neural_cleanse.Reverser, 'find', seen)
  resumed, _ = run('resumed', changes, tmp_path / 'killed')
  assert searched == sorted(set(searched)) and len(searched) > 1
  whole, _ = run('whole', changes, tmp_path / 'whole')
  assert resumed['models'] == whole['models']
  assert resumed['found'] == whole['found']


# --- The attacker who knows the defense ---


@pytest.mark.parametrize('known', [('shipped',), ('shipped', 'general')])
def test_poison_that_evades(known, rng):
  """The evidence of each PIRM falls, at little cost in distance."""
  evaded = [pirm.load(pirm.SHIPPED[name]) for name in known]
  evidence = pirm.evidence_of_all([found.variant for found in evaded])
  targets = rng.integers(90, 160, (4, 64, 64, 3), np.uint8)
  sources = rng.integers(0, 256, (4, 64, 64, 3), np.uint8)
  weights = rng.normal(size=(64 * 64 * 3, 16)).astype(np.float32) / 100

  def features(params, images):
    return images.reshape(len(images), -1) @ params

  spec = collision.CollisionSpec(
    iterations=30, stop_distance=0.0, pairing='fixed', batch_size=4
  )
  evading = collision.Evasion(
    adaptive.Adaptive(evade=1.0),
    evidence,
    tuple(found.variables for found in evaded),
  )
  plain, evasive = (
    collision.Crafter(features, weights, spec, *e).craft(targets, sources)
    for e in ((), (evading,))
  )
  for detector in evaded:
    before, after = (
      pirm.score(detector, p.images, 4) for p in (plain, evasive)
    )
    assert after.max() < 0.5 and after.mean() < before.mean()
  assert (evasive.distance_end < evasive.distance_start / 2).all()
  change = np.abs(evasive.images.astype(int) - targets)
  assert change.max() <= 16


def test_a_gray_change_is_the_same_in_all_channels(rng):
  targets = rng.integers(40, 200, (3, 12, 12, 3), np.uint8)
  sources = rng.integers(0, 256, (3, 12, 12, 3), np.uint8)
  weights = rng.normal(size=(12 * 12 * 3, 4)).astype(np.float32)

  def features(params, images):
    return images.reshape(len(images), -1) @ params

  spec = collision.CollisionSpec(
    iterations=20, stop_distance=0.0, pairing='fixed', batch_size=3, gray=True
  )
  found = collision.Crafter(features, weights, spec).craft(targets, sources)
  change = found.images.astype(int) - targets
  assert np.ptp(change, axis=-1).max() == 0 and np.abs(change).max() > 2
  assert (found.distance_end < found.distance_start).all()


def test_smooth_poison_is_blurred_once(rng):
  """What is left of a slow change is what one blur leaves."""
  targets = np.full((2, 32, 32, 3), 128, np.uint8)
  sources = np.full((2, 32, 32, 3), 192, np.uint8)
  slow = np.sin(2 * np.pi * np.arange(32) / 32)[:, None, None]
  weights = np.broadcast_to(slow, (32, 32, 3)).reshape(-1, 1)

  def features(params, images):
    return images.reshape(len(images), -1) @ params

  def change(sigma):
    spec = collision.CollisionSpec(
      iterations=60, stop_distance=0.0, pairing='fixed', batch_size=2
    )
    evasion = collision.Evasion(adaptive.Adaptive(smoothness=sigma))
    ramp = np.arange(32, dtype=np.uint8)[None, :, None, None]
    found = collision.Crafter(
      features, weights.astype(np.float32), spec, evasion
    ).craft(targets, np.broadcast_to(sources + ramp, targets.shape))
    return np.abs(found.images.astype(int) - targets).mean()

  assert change(2.0) > 0.6 * change(0.0)


def test_a_smooth_change_has_no_grain(rng):
  delta = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
  found = np.asarray(adaptive.blur(jnp.asarray(delta), 2.0))

  def grain(x):
    return np.abs(np.diff(x, axis=1)).mean() / np.abs(x).mean()

  assert grain(found) < grain(delta) / 3
  level = jnp.ones((1, 9, 9, 3))
  np.testing.assert_allclose(adaptive.blur(level, 1.0), level, rtol=1e-5)


def test_of_several_pirms_the_highest_score_counts(run):
  seen = {}
  for ensemble in ((), ('general',)):
    changes = {
      'defense.pirm.ensemble': ensemble,
      'defense.detector': 'pirm',
    }
    found, folder = run('ensemble', changes)
    store = folder.parent / 'store0'
    path = 'detection/pirm', 'verdict.npz'
    seen[ensemble] = load(store, found, *path)['scores']
    pirms = [name for name in found['stages'] if name.startswith('pirm/')]
    assert len(pirms) == 1 + len(ensemble)  # the account is complete
    assert found['cost']['evaluations_per_training_picture'] == len(pirms)
    assert list(found['pirm'].get('ensemble', {})) == list(ensemble)
  alone, both = seen[()], seen[('general',)]
  assert (both >= alone).all() and (both > alone).any()


@pytest.mark.parametrize(
  'changes,named',
  [
    (
      {'defense.pirm.ensemble': ('nothing.npz',)},
      'config.defense.pirm.ensemble',
    ),
    (
      {'attack.adaptive.evade': 1.0, 'attack.adaptive.pirm': 'no.npz'},
      'config.attack.adaptive.pirm',
    ),
    (
      {'attack.adaptive.evade': 1.0, 'attack.adaptive.ensemble': ('no.npz',)},
      'config.attack.adaptive.ensemble',
    ),
  ],
)
def test_a_pirm_that_is_not_there(changes, named):
  config = common.get_config()
  fields = SMALL_RUN | {'defense.detector': 'pirm'} | changes
  config.update_from_flattened_dict(fields)
  with pytest.raises(errors.UserError, match=named):
    rules.check_files(rules.check(config))


@pytest.mark.parametrize(
  'changes,named',
  [
    ({'defense.detector': 'strip'}, 'scenario.trusted_fraction'),
    (
      {
        'defense.trainer': 'rab',
        'defense.input_check': 'strip',
        'scenario.trusted_fraction': 0.1,
      },
      'config.defense.input_check',
    ),
    (
      {
        'defense.trainer': 'rab',
        'defense.repair': 'fine_pruning',
        'scenario.trusted_fraction': 0.1,
      },
      'config.defense.repair',
    ),
    (
      {
        'defense.repair': 'fine_pruning',
        'recognizer.frozen': 'none',
        'scenario.trusted_fraction': 0.1,
      },
      'config.recognizer.frozen',
    ),
    ({'attack.kind': 'badnets'}, 'config.attack.batch_size'),
    ({'attack.kind': 'nothing'}, 'config.attack.kind'),
    ({'attack.retrainings': -1}, 'config.attack.retrainings'),
    ({'pirm.poison.adaptive.smoothness': -1.0}, 'pirm.poison.adaptive'),
  ],
)
def test_defenses_that_cannot_be(changes, named):
  config = common.get_config()
  config.update_from_flattened_dict(SMALL_RUN | changes)
  with pytest.raises(errors.UserError, match=named):
    rules.check(config)


# --- The benchmark's table ---


@pytest.mark.parametrize(
  'variant',
  ['multiclass', 'binary', 'cheap', 'pairs', 'attacks', 'unfrozen'],
)
def test_the_benchmark_can_be_planned(variant, tmp_path):
  config = bench_lfw.get_config(variant)
  runs = plan.of_study(config, tmp_path)
  plan.check(runs)
  labels = {run.row.name for run in runs}
  assert len(runs) == len(labels) * len(config.study.repeats)
  attacks = {run.row.panel for run in runs}
  assert len(attacks) == {'attacks': 4, 'unfrozen': 2}.get(variant, 1)
  assert all(f'{attack}, no defense' in labels for attack in attacks)
  with pytest.raises(ValueError):
    bench_lfw.get_config('nothing')


def test_all_defenses_are_in_the_benchmark():
  rows = bench_lfw._CHEAP + bench_lfw._DEAR
  assert sorted(name for _, name, _ in rows) == DEFENSES


@pytest.mark.parametrize(
  'variant', ['evading', 'threshold', 'other_means', 'gray', 'epsilon']
)
def test_the_adaptive_study_can_be_planned(tmp_path, variant):
  config = adaptive_lfw.get_config(variant)
  runs = plan.of_study(config, tmp_path)
  for run in runs:
    rules.check(run.config)
  assert len(runs) == 3 * len(config.study.rows)


def test_effectiveness_against_the_definition():
  def models(*found):
    names = ('malicious', 'protected')
    return {
      name: {'asr': asr, 'accuracy': accuracy}
      for name, (asr, accuracy) in zip(names, found, strict=True)
    }

  of = metrics.defense_effectiveness
  assert of(models((0.9, 0.8), (0.1, 0.7))) == pytest.approx(
    (0.8 - 0.1 + 1) / 2
  )
  assert of(models((0.2, 0.7), (0.6, 0.9))) == 0.5  # nothing gained, nor lost
  assert of({'malicious': {}}) is None


def test_what_a_defense_does_not_measure_is_a_dash():
  detection = {'tpr': None, 'num_poisoned': None}
  found = study_table.entry([{'detection': detection}], 'detection.tpr', None)
  assert str(found) == '-' and not found.is_count
  line = study_table.Line('a', [found], 1)
  (written,) = study_table.as_json(['TPR'], [line])
  assert written['columns']['TPR']['mean'] is None
  json.dumps(written, allow_nan=False)
  assert [str(r.entries[0]) for r in study_table.pooled([line])] == ['-'] * 3
  with pytest.raises(KeyError):  # elsewhere nothing is a mistake
    study_table.entry([{'models': {'asr': None}}], 'models.asr', None)


def test_a_tradeoff_has_a_panel_for_each_attack():
  def line(panel, label, asr, accuracy):
    entries = [study_table.Entry([x], None, None) for x in (asr, accuracy)]
    return study_table.Line(label, entries, 1, panel)

  lines = [
    line('A', 'none', 0.9, 0.8),
    line('A', 'noise, much', 0.1, 0.7),
    line('B, of some kind', 'none', 0.8, 0.8),
  ]
  figure = study_figures.tradeoff(
    ['ASR', 'accuracy'], lines, ('ASR', 'accuracy')
  )
  first, second = (ax for ax in figure.axes if ax.get_title())
  assert (first.get_title(), second.get_title()) == ('A', 'B, of some kind')
  points = {c.get_label(): c[0].get_xydata()[0] for c in first.containers}
  assert points['noise, much'] == pytest.approx([10, 70])
  legend = [text.get_text() for text in figure.legends[0].get_texts()]
  assert legend == ['none', 'noise, much']


def test_a_tradeoff_of_headings_that_are_not_there(tmp_path):
  config = bench_lfw.get_config()
  config.study.tradeoff = ('ASR %', 'nothing')
  with pytest.raises(errors.UserError, match='config.study.tradeoff'):
    plan.of_study(config, tmp_path)


def test_specs_are_what_makes_an_attacker():
  """The paper's attacker does nothing about the defense."""
  spec = collision.NO_EVASION.spec
  assert spec.evade == spec.noise_scale == spec.smoothness == 0
