"""What stages declare: they can read nothing else, and planners ask them."""

import dataclasses

import pytest

from babam_jax.config import rules, schema
from babam_jax.experiment import (
  defending,
  face_data,
  features,
  pipeline,
  poisoning,
  recognizing,
  stage_graph,
)
from babam_jax.pirm_training import pirm_stages, training_data
from babam_jax.store.artifacts import Store
from babam_jax.store.lab import Lab
from babam_jax.store.stage import Stage, UndeclaredReadError

STAGES = (
  face_data.SCENARIO,
  poisoning.POISON,
  poisoning.INFORMED_POISON,
  poisoning.SHOWN,
  features.FEATURES,
  recognizing.CLEAN,
  recognizing.MALICIOUS,
  defending.DETECTION,
  defending.DETECTION_OF_PICTURES,
  defending.TREATMENT,
  defending.PROTECTED,
  defending.REPAIR,
  defending.INPUT_CHECK,
  training_data.POISON,
  training_data.PICTURES,
  pirm_stages.TRAINING,
  pirm_stages.CALIBRATION,
)


def experiment(**fields):
  config = schema.default_config()
  config.data.name = 'orl'
  config.update_from_flattened_dict(
    {name.replace('__', '.'): value for name, value in fields.items()}
  )
  return rules.check(config)


def test_a_stage_reads_what_it_declares_and_no_more():
  stage = Stage('one', 1, ('recognizer', '-recognizer.epochs', 'data.size'))
  seen = []
  view = stage.view(experiment(), seen.append)
  assert view.recognizer.model == 'alexnet' and view.data.size == 224
  assert seen == ['recognizer', 'data.size']
  for undeclared in (
    lambda: view.seed,
    lambda: view.data.root,
    lambda: view.attack.method,
  ):
    with pytest.raises(UndeclaredReadError, match='config'):
      undeclared()
  values = stage.values(experiment())
  assert 'recognizer.width' in values and 'recognizer.epochs' not in values


@pytest.mark.parametrize('stage', STAGES, ids=lambda stage: stage.name)
def test_every_declared_field_is_there(stage):
  whole = experiment()
  assert stage.values(whole) is not None
  for read in stage.reads:
    value = whole
    for name in read.removeprefix('-').split('.'):
      value = getattr(value, name)


def test_a_compute_that_reads_more_fails(tmp_path):
  lab = Lab(experiment(), Store(tmp_path), tmp_path)
  with pytest.raises(UndeclaredReadError):
    lab.make(
      Stage('greedy', 1, ('seed',)),
      lambda experiment, output, scratch: experiment.data.root and None,
    )
  assert not [path for path in tmp_path.glob('greedy-*') if path.is_dir()]


def test_a_whole_run_reads_what_its_stages_declare(
  faces, tmp_path, monkeypatch
):
  """And each field that makes a difference is read by somebody."""
  from conftest import SMALL_RUN

  read = {}
  view = Stage.view

  def recording(self, whole, on_read=None):
    return view(self, whole, read.setdefault(self.name, set()).add)

  monkeypatch.setattr(Stage, 'view', recording)
  config = schema.default_config()
  fields = SMALL_RUN | {'data.root': str(faces), 'recognizer.epochs': 1}
  config.update_from_flattened_dict(fields)
  pipeline.run(config, tmp_path / 'work', tmp_path / 'store', 'test')
  assert {'scenario', 'poison', 'model/clean', 'treatment'} <= read.keys()
  assert 'attack.method' in read['poison'] and 'seed' in read['model/clean']
  declared = {stage.name: set() for stage in STAGES}
  for stage in STAGES:
    declared[stage.name] |= {field.removeprefix('-') for field in stage.reads}
  for name, fields in read.items():
    for field in fields:
      assert any(
        field == known or field.startswith(f'{known}.')
        for known in declared[name]
      ), f'{name} reads {field}'


def names_that_differ(first, second):
  one, two = map(stage_graph.costly, (first, second))
  return {name for name in one if one[name] != two.get(name)}


def config_of(**fields):
  config = schema.default_config()
  config.data.name = 'orl'
  config.update_from_flattened_dict(
    {name.replace('__', '.'): value for name, value in fields.items()}
  )
  return config


@pytest.mark.parametrize(
  'fields,differ',
  [
    ({'defense__noise__epsilon': 0.1}, {'model/protected'}),
    ({'defense__pirm__threshold': 0.1}, {'model/protected'}),
    ({'recognizer__checkpoint_every': 1}, set()),
    (
      {'data__root': 'elsewhere'},
      {'poison', 'model/clean', 'model/malicious', 'model/protected'},
    ),
    ({'attack__share': 0.5}, {'model/malicious', 'model/protected'}),
    (
      {'attack__eps': 8.0},
      {'poison', 'model/malicious', 'model/protected'},
    ),
    (
      {'recognizer__epochs': 3},
      {'model/clean', 'model/malicious', 'model/protected'},
    ),
  ],
)
def test_what_two_experiments_share(fields, differ):
  assert names_that_differ(config_of(), config_of(**fields)) == differ


def test_a_pirm_that_is_trained_first_is_among_the_costly_stages():
  config = config_of(defense__pirm__checkpoint='train', pirm__root='pictures')
  assert {'pirm', 'pirm_calibration'} <= stage_graph.costly(config).keys()
  assert 'pirm' not in stage_graph.costly(config_of())
  for other in (
    {'pirm__root': 'others'},
    {'pirm__leave_out': ('cars',)},
    {'pirm__native': True},
  ):
    changed = config_of(
      **{'defense__pirm__checkpoint': 'train', 'pirm__root': 'pictures'} | other
    )
    assert 'pirm' in names_that_differ(config, changed)


def test_another_version_of_a_part_is_another_result():
  whole = experiment()
  treatment = whole.defense.treatment

  class Newer(type(treatment)):
    version = 2

  newer = dataclasses.replace(
    whole, defense=dataclasses.replace(whole.defense, treatment=Newer())
  )
  stage = defending.TREATMENT
  assert stage.values(whole) != stage.values(newer)
  assert stage.result(whole) != stage.result(newer)


def test_settings_that_matter_later_change_no_training():
  chosen = {'defense__trainer': 'rab', 'defense__detector': 'none'}
  base = config_of(**chosen)
  other = config_of(**chosen, defense__rab__alpha=0.01)
  stage = defending.PROTECTED
  one, two = (rules.check(config) for config in (base, other))
  assert stage.values(one) == stage.values(two)
  assert stage.result(one) != stage.result(two)
