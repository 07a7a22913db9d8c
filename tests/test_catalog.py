"""All attacks, defenses, networks and metrics: what each must bring along."""

import dataclasses
import inspect
import pathlib
import re

import numpy as np
import pytest

from babam_jax import settings
from babam_jax.attacks import issba
from babam_jax.attacks.base import Attack
from babam_jax.attacks.catalog import ATTACKS
from babam_jax.config import schema
from babam_jax.defenses.base import Context, Detector, Meter, Need
from babam_jax.defenses.catalog import PARTS
from babam_jax.evaluation.metrics import MODEL_METRICS
from babam_jax.models.networks import ARCHITECTURES

KINDS = {
  **{f'attack {name}': kind for name, kind in ATTACKS.items()},
  **{
    f'{role} {name}': kind
    for role, kinds in PARTS.items()
    for name, kind in kinds.items()
  },
}
OURS = ('none.py', 'plain.py', 'drop.py')  # they have no source to name


@pytest.mark.parametrize('name', KINDS)
def test_what_everyone_brings(name):
  kind = KINDS[name]
  assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
  assert inspect.getdoc(kind).endswith('.')
  module = inspect.getmodule(kind)
  file = pathlib.Path(module.__file__).name
  assert module.__doc__
  if file not in OURS:  # a paper: its year, or a place in the one of BA-BAM
    told = module.__doc__ + kind.__doc__
    assert re.search(r'\b(19|20)\d\d\b|paper|Algorithm|Eq\.', told), (
      f'{file}: its docstring names no paper. Name it with its year, or add '
      'the file to OURS.'
    )
  kind()  # every setting has a default, and it is in range
  settings.check(kind(), 'here')
  for field, known in settings.fields(kind):
    assert known.text.endswith(('.', '?')), f'{name}: {field.name}'
    if isinstance(field.default, (int, float)) and field.type is not bool:
      bounds = (known.above, known.at_least, known.at_most, known.below)
      is_switch = isinstance(field.default, bool)
      assert is_switch or any(b is not None for b in bounds), field.name


# What some attacks have learned when they show their trigger.
LEARNED = {
  'narcissus': {'pattern': np.ones((96, 96, 3), np.float32)},
  'issba': {
    'secret': np.ones(20, np.float32),
    **issba._flat(issba._initial(20, 0)),
  },
}


def changed(value, known):
  """Another value in the range of a setting."""
  if isinstance(value, bool):
    return not value
  if known.choices:
    return next(one for one in known.choices if one != value)
  if isinstance(value, int | float):
    for other in (value + 1, value - 1, value * 0.5, value * 0.9):
      if type(other) is type(value) and known.allows(other):
        return other
  return value


@pytest.mark.parametrize('name', ATTACKS)
def test_what_is_shown_depends_on_what_the_attack_declares(name, rng):
  """A setting that `shows` forgets would leave old pictures in the store."""
  images = rng.integers(0, 256, (2, 96, 96, 3), np.uint8)
  attack = ATTACKS[name]().showing(LEARNED.get(name, {}))
  before = attack.show(images, seed=0)
  for field, known in settings.fields(attack):
    if field.name in attack.shows:
      continue
    other = changed(getattr(attack, field.name), known)
    after = dataclasses.replace(attack, **{field.name: other})
    assert (after.show(images, seed=0) == before).all(), field.name


@pytest.mark.parametrize(
  'role,given',
  [('trainer', {Need.TRUSTED, Need.FLAGS}), ('repair', {Need.TRUSTED})],
)
def test_trainers_and_repairs_need_no_more_than_they_get(role, given):
  for kind in PARTS[role].values():
    assert kind.needs <= given


def test_what_is_decided_later_is_decided():
  """Else a stored verdict would keep the flags of another threshold."""
  for kind in PARTS['detector'].values():
    assert not kind.decided_later or kind.decide is not Detector.decide


def test_names_are_those_of_the_config():
  config = schema.default_config()
  for kind in ATTACKS.values():
    for field, _ in settings.fields(kind):
      assert field.name in config.attack
  for kinds in PARTS.values():
    for name, kind in kinds.items():
      for field, _ in settings.fields(kind):
        assert field.name in config.defense[name]


def test_a_setting_that_attacks_share_means_one_thing():
  found = {}
  for name, kind in ATTACKS.items():
    for field, known in settings.fields(kind):
      told = (known.text, known.expected(), field.default)
      assert found.setdefault(field.name, told) == told, f'{name}: {field.name}'


def test_what_attacks_show_is_among_their_settings():
  for kind in ATTACKS.values():
    names = {field.name for field, _ in settings.fields(kind)}
    assert kind.shows and set(kind.shows) <= names


def test_a_cost_that_nobody_counts_is_an_error():
  assert Meter().is_used is False
  with pytest.raises(ValueError, match='has not counted'):
    Meter().counts('Somebody')
  meter = Meter()
  meter.count(0)
  assert meter.counts('Somebody') == {'judging': 0, 'beforehand': 0}
  meter.count(3)
  meter.count(4, beforehand=True)
  assert meter.counts('Somebody') == {'judging': 3, 'beforehand': 4}


def test_no_trainer_or_repair_sees_what_the_attacker_shows():
  """There is no place for it in what they are given."""
  fields = {field.name for field in dataclasses.fields(Context)}
  assert not fields & {'patched', 'shown', 'test'}


def test_networks_and_metrics_have_their_names_in_one_dict():
  for name, architecture in ARCHITECTURES.items():
    assert set(architecture.head_taps) <= set(architecture.taps), name
    assert architecture.official.endswith('.pth') or architecture.file_layers
  assert {'accuracy', 'asr', 'asr_unpatched'} <= MODEL_METRICS.keys()


def test_one_line_makes_an_attack_known(monkeypatch):
  @dataclasses.dataclass(frozen=True)
  class Loud(Attack):
    """An attacker with a setting of his own."""

    volume: float = settings.setting(1.0, 'How loud.', at_least=0)

    def craft(self, targets, sources, **known):
      raise AssertionError

    def show(self, pictures, **known):
      return pictures

  monkeypatch.setitem(ATTACKS, 'loud', Loud)
  config = schema.default_config()
  assert config.attack.volume == 1.0
  assert schema._unused(config) == {}
