"""The typed config: made from the settings of the parts, checked by them."""

import dataclasses
import math

import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from babam_jax import errors, settings
from babam_jax.config import overrides, reference, renamed, rules, schema
from babam_jax.settings import setting


@dataclasses.dataclass(frozen=True)
class Node:
  share: float = setting(0.5, 'A share.', at_least=0, at_most=1)


@dataclasses.dataclass(frozen=True)
class Example:
  count: int = setting(3, 'A count.', at_least=1)
  way: str = setting('a', 'A way.', choices=('a', 'b'))
  names: tuple[str, ...] = setting((), 'Names.', choices=('x', 'y'))
  node: Node = setting(Node(), 'A node.')


def changed(**fields):
  config = schema.default_config()
  config.data.name = 'orl'
  return overrides.set_fields(
    config, {name.replace('__', '.'): x for name, x in fields.items()}, 'here'
  )


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_range_holds_what_it_says(value):
  known = settings.Setting('', above=0, at_most=2)
  assert known.allows(value) == (0 < value <= 2)


@pytest.mark.parametrize(
  'values,named',
  [
    ({'count': 0}, 'config.here.count: found 0, expected at least 1'),
    ({'way': 'c'}, "config.here.way: found 'c', expected one of a, b"),
    ({'names': ('x', 'z')}, 'config.here.names'),
    ({'node': {'share': 1.5}}, 'config.here.node.share: found 1.5'),
  ],
)
def test_a_value_out_of_range_is_named(values, named):
  with pytest.raises(errors.UserError, match=named):
    settings.check(settings.build(Example, values), 'here')


def test_settings_come_back_as_they_were():
  node = Example(5, 'b', ('x',), Node(0.25))
  assert settings.build(Example, settings.as_dict(node)) == node
  # JSON has lists, and whole numbers where a share is 1.
  read = {'names': ['x'], 'node': {'share': 1}}
  found = settings.build(Example, read)
  assert found.names == ('x',) and type(found.node.share) is float
  assert settings.replace(node, {'node.share': 1}).node.share == 1.0
  for wrong in ({'nothing': 1}, {'node': {'nothing': 1}}):
    with pytest.raises(KeyError):
      settings.build(Example, wrong)
  with pytest.raises(TypeError):
    settings.build(Example, {'count': 'many'})


def test_the_defaults_are_the_experiment_of_the_paper():
  config = schema.default_config()
  config.data.name = 'orl'
  experiment = rules.check(config)
  names = dataclasses.asdict(experiment.defense.names)
  assert names == {
    'detector': 'pirm',
    'treatment': 'noise',
    'trainer': 'plain',
    'repair': 'none',
    'input_check': 'none',
  }
  assert experiment == dataclasses.replace(
    schema.Experiment(), data=experiment.data
  )


@pytest.mark.parametrize(
  'fields,named',
  [
    # Options that the attack does not use.
    (
      {'attack__kind': 'badnets', 'attack__adaptive__evade': 1.0},
      'config.attack.adaptive.evade: found 1.0.*hidden_trigger',
    ),
    (
      {'attack__kind': 'sleeper_agent', 'attack__gray': True},
      'config.attack.gray',
    ),
    ({'attack__blend': 0.5}, 'config.attack.blend.*kind=blended'),
    # Those of a defense that is not chosen.
    (
      {'defense__strip__overlays': 5},
      'config.defense.strip.overlays.*detector=strip.*input_check=strip',
    ),
    (
      {'defense__treatment': 'drop', 'defense__noise__epsilon': 1.0},
      'config.defense.noise.epsilon',
    ),
    ({'attack__eps': 0.5}, 'config.attack.eps.*at least 1.*gray levels'),
    ({'attack__tap': 'layer1'}, 'config.attack.tap'),
    ({'attack__trigger_size': 224}, 'config.attack.trigger_size'),
    ({'data__size': 40}, 'config.data.size.*63'),
    ({'data__name': 'nothing'}, 'config.data.name'),
    ({'models': ()}, 'config.models'),
    ({'defense__detector': 'rap'}, 'config.scenario.trusted_fraction'),
    (
      {
        'defense__detector': 'none',
        'defense__input_check': 'pirm',
        'defense__pirm__checkpoint': 'train',
      },
      'config.pirm.root',
    ),
    ({'defense__pirm__ensemble': (3,)}, 'config.defense.pirm.ensemble.*3'),
    ({'pirm__kinds': (3,)}, 'config.pirm.kinds'),
    (
      {'defense__trainer': 'rab', 'defense__rab__radii': ('a',)},
      "config.defense.rab.radii: found 'a'",
    ),
    (
      {'defense__trainer': 'rab', 'defense__rab__radii': (float('nan'),)},
      'config.defense.rab.radii: found',
    ),
    ({'models': (['clean'],)}, 'config.models'),
    ({'recognizer__pretrained': 'full', 'recognizer__width': 8}, 'width'),
  ],
)
def test_mistakes_are_told_by_their_field(fields, named):
  with pytest.raises(errors.UserError, match=named):
    rules.check_files(rules.check(changed(**fields)))


@pytest.mark.parametrize(
  'path', ['recognizer.epoch', 'attack.adaptive.evades', 'pirm.grey_fraction']
)
def test_fields_that_are_not_there_are_named_with_their_node(path):
  config = changed().unlock()
  *nodes, name = path.split('.')
  place = config
  for node in nodes:
    place = place[node]
  place[name] = 1
  with pytest.raises(errors.UserError, match=f'config.{path}'):
    rules.check(config)


def test_a_config_without_its_nodes():
  with pytest.raises(errors.UserError, match='config.attack: found None'):
    rules.check(ConfigDict({'data': {'name': 'orl'}}))


def test_who_chooses_another_attack_need_not_take_options_back():
  """Those of the file it starts from; what is set with it is refused."""
  base = changed(attack__batch_size=60)
  varied = overrides.vary(base, {'attack.kind': 'badnets'}, 'a row')
  assert varied.attack.batch_size == 48
  assert rules.check(varied).attack.kind == 'badnets'
  sets = {'attack.kind': 'badnets', 'attack.batch_size': 10}
  with pytest.raises(errors.UserError, match='config.attack.batch_size'):
    overrides.vary(base, sets, 'a row')


def test_old_names_say_the_new_ones():
  assert renamed.new_name('fr.epochs') == 'recognizer.epochs'
  for old in ('defense.flags', 'pirm.checkpoint', 'attack.grey', 'fr.model'):
    with pytest.raises(errors.UserError) as told:
      overrides.set_fields(schema.default_config(), {old: 'x'}, 'here')
    assert renamed.new_name(old) in str(told.value)
  # Every new name is a field.
  config = schema.default_config()
  for old in renamed._NEW_NAMES:
    value = config
    for name in renamed.new_name(old).split(' ')[0].split('.'):
      value = value[name]


def test_the_reference_is_that_of_the_code():
  made = reference.page()
  kept = (REPOSITORY / 'docs/reference/config.md').read_text('utf-8')
  assert made == kept, 'python -m babam_jax.config.reference > FILE'
  assert '`defense.strip.overlays`' in made and '`attack.eps`' in made


EXTREMES = {
  float: (math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, -0.0),
  int: (-1, 0, 2**31, 2**32 - 1, 2**32, 2**63, 10**30, -(2**63)),
}


def test_fields_at_their_extremes():
  """Each is accepted or refused by name; nothing else comes of it."""
  refused = tried = 0
  for path in schema.field_paths():
    for value in EXTREMES.get(type(_get(schema.default_config(), path)), ()):
      config = schema.default_config()
      config.data.name = 'orl'
      *nodes, name = path.split('.')
      setattr(_get(config, '.'.join(nodes)), name, value)
      tried += 1
      try:
        rules.check(config)
      except errors.UserError as error:
        assert path in str(error) and '\n' not in str(error)
        refused += 1
  assert 100 < refused < tried


def _get(config, path):
  for name in path.split('.') if path else ():
    config = config[name]
  return config
