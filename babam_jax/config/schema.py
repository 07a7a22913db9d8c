"""The config of an experiment, typed.

The parts declare their settings beside the code that uses them; here they are
put together, as an `Experiment` for the code and as a `ConfigDict` for config
files and `--config.a.b=`.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from babam_jax import errors, settings
from babam_jax.attacks.base import Attack
from babam_jax.attacks.catalog import ATTACKS
from babam_jax.config import renamed
from babam_jax.config.study_settings import StudySettings
from babam_jax.data.datasets import DataSettings
from babam_jax.data.scenario import ScenarioSettings
from babam_jax.defenses import pirm
from babam_jax.defenses.base import Detector, Part, Repair, Trainer, Treatment
from babam_jax.defenses.calibrated_noise import CalibratedNoise
from babam_jax.defenses.catalog import PARTS
from babam_jax.defenses.none import NoDetector, NoRepair
from babam_jax.defenses.pirm_detector import PirmDetector
from babam_jax.defenses.pirm_recipe import PirmSettings
from babam_jax.defenses.plain import Plain
from babam_jax.settings import setting
from babam_jax.training.recognition import RecognitionSettings

MODELS = ('clean', 'malicious', 'protected')


@dataclasses.dataclass(frozen=True)
class AttackSettings:
  """The attack, one of `attacks.catalog.ATTACKS`, and how much poison."""

  kind: str = setting('hidden_trigger', 'The attack.', choices=tuple(ATTACKS))
  passes: int = setting(
    2,
    'Poisons per picture of the target, each with another source.',
    at_least=1,
  )
  share: float = setting(
    1.0,
    'The share of the poison that goes into the training set (Table 5).',
    above=0,
    at_most=1,
  )
  method: Attack = dataclasses.field(default_factory=ATTACKS['hidden_trigger'])


@dataclasses.dataclass(frozen=True)
class DefenseChoice:
  """The names of the five parts of the defense."""

  detector: str = setting(
    'pirm',
    "Who flags training pictures; 'none': nobody.",
    choices=tuple(PARTS['detector']),
  )
  treatment: str = setting(
    'noise',
    'What happens to flagged pictures before training.',
    choices=tuple(PARTS['treatment']),
  )
  trainer: str = setting(
    'plain',
    'How the protected model is trained.',
    choices=tuple(PARTS['trainer']),
  )
  repair: str = setting(
    'none', 'How the trained model is repaired.', choices=tuple(PARTS['repair'])
  )
  input_check: str = setting(
    'none',
    "Who checks the model's inputs; refused ones count as not recognized.",
    choices=tuple(PARTS['input_check']),
  )


@dataclasses.dataclass(frozen=True)
class DefenseSettings:
  """The five parts of the defense; BA-BAM by default."""

  detector: Detector = PirmDetector()
  treatment: Treatment = CalibratedNoise()
  trainer: Trainer = Plain()
  repair: Repair = NoRepair()
  input_check: Detector = NoDetector()
  names: DefenseChoice = DefenseChoice()

  @property
  def is_plain(self) -> bool:
    """Whether the protected model is trained as the others are."""
    return self.names.trainer == 'plain'

  @property
  def trains_a_pirm(self) -> bool:
    """Whether one of the PIRMs that are asked is trained first."""
    asked = (*self.detector.members, *self.input_check.members)
    return pirm.TRAIN in asked

  def parts(self) -> Iterator[tuple[str, str, Part]]:
    """Role, name and settings of each part."""
    for role in PARTS:
      yield role, getattr(self.names, role), getattr(self, role)


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
  """How models are judged (paper 4.5)."""

  positions: int = setting(
    10,
    'Random trigger positions per test picture of the source.',
    at_least=1,
  )
  batch_size: int = setting(
    64, 'Pictures per step, over all devices.', at_least=1
  )


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything that a run depends on."""

  seed: int = setting(
    0, 'Everything random follows from this number.', at_least=0
  )
  models: tuple[str, ...] = setting(
    MODELS,
    "Which recognizers are trained and judged: 'clean' (without attack), "
    "'malicious' (under attack), 'protected' (behind the defense).",
    choices=MODELS,
    at_least=1,
    each=(str,),
  )
  data: DataSettings = setting(DataSettings(), 'The pictures.')
  scenario: ScenarioSettings = setting(
    ScenarioSettings(), 'Who attacks whom, and what each picture is used for.'
  )
  recognizer: RecognitionSettings = setting(
    RecognitionSettings(), 'The face-recognition model.'
  )
  pirm: PirmSettings = setting(
    PirmSettings(),
    "How a PIRM is trained, where defense.pirm.checkpoint is 'train'.",
  )
  evaluation: EvaluationSettings = setting(
    EvaluationSettings(), 'How models are judged.'
  )
  attack: AttackSettings = AttackSettings()
  defense: DefenseSettings = DefenseSettings()


def attack_fields() -> dict[str, list[str]]:
  """The settings of all attacks, and which attacks use each."""
  users: dict[str, list[str]] = {}
  for name, kind in ATTACKS.items():
    for field, _ in settings.fields(kind):
      users.setdefault(field.name, []).append(name)
  return users


def defense_nodes() -> dict[str, type[Part]]:
  """The parts of defenses that have settings, by their names."""
  return {
    name: kind
    for kinds in PARTS.values()
    for name, kind in kinds.items()
    if any(settings.fields(kind))
  }


def default_config() -> ConfigDict:
  """All fields with their defaults, for config files to start from."""
  values = settings.defaults(Experiment)
  attack = settings.defaults(AttackSettings)
  for kind in reversed(ATTACKS.values()):  # the first attack's defaults count
    attack |= settings.defaults(kind)
  defense = settings.as_dict(DefenseChoice())
  for name, kind in defense_nodes().items():
    defense[name] = settings.defaults(kind)
  study = settings.defaults(StudySettings)
  return ConfigDict(
    values | {'attack': attack, 'defense': defense, 'study': study}
  )


def typed(config: ConfigDict) -> Experiment:
  """The experiment that a config describes, each field in its range.

  Raises:
    UserError: there is no such field, a value is out of its range, or an
      option is set that the chosen attack and defense do not use; the message
      names the field.
  """
  values = config.to_dict()
  values.pop('study', None)
  for node in ('attack', 'defense'):
    if not isinstance(values.get(node), dict):
      raise errors.UserError(
        f'config.{node}: found {values.get(node)!r}, expected all its fields. '
        'Begin with babam_jax.default_config().'
      )
  attack, defense = values.pop('attack'), values.pop('defense')
  experiment = dataclasses.replace(
    _build(Experiment, values, ''),
    attack=_attack(attack),
    defense=_defense(defense),
  )
  settings.check(experiment, '')
  for path, option in _unused(config).items():
    raise option.error(path)
  return experiment


def has_field(path: str) -> bool:
  """Whether the config has a field, or a group of fields, of that path."""
  return any(f'{name}.'.startswith(f'{path}.') for name in field_paths())


def field_paths() -> list[str]:
  """The paths of all fields."""
  return list(_flat(default_config().to_dict()))


def choices() -> set[str]:
  """The fields that choose an attack or a part of a defense."""
  return {'attack.kind', *(f'defense.{role}' for role in PARTS)}


def without_unused(config: ConfigDict, on_top: Collection[str]) -> ConfigDict:
  """A copy in which options that nobody uses have their defaults again.

  A config file may set options of its attack; whoever chooses another attack on
  the command line, or in a row of a study, need not reset them.

  Args:
    config: the whole config.
    on_top: the fields that were set on top of a config file, by path.

  Raises:
    UserError: one of `on_top` is an option that nobody uses.
  """
  cleaned = config.copy_and_resolve_references()
  for path, option in _unused(config).items():
    if path in on_top:
      raise option.error(path)
    cleaned.update_from_flattened_dict({path: option.default})
  return cleaned


class _Option(NamedTuple):
  """An option that nobody uses, and that is not at its default."""

  value: Any
  default: Any
  remedy: str

  def error(self, path: str) -> errors.UserError:
    return errors.UserError(
      f'config.{path}: found {self.value!r}, expected its default, '
      f'{self.default!r}: what was chosen does not use it. Leave it out, or '
      f'choose {self.remedy}.'
    )


def _flat(values: Mapping[str, Any], path: str = '') -> dict[str, Any]:
  """Nested values by their paths; JSON has lists for tuples."""
  found = {}
  for name, value in values.items():
    here = f'{path}{name}'
    if isinstance(value, Mapping):
      found |= _flat(value, f'{here}.')
    else:
      found[here] = tuple(value) if isinstance(value, list) else value
  return found


def _unused(config: ConfigDict) -> dict[str, _Option]:
  """Options that are set, of attacks and defenses that are not chosen."""
  values = config.to_dict()
  users, kind = attack_fields(), values['attack']['kind']
  remedies = {
    f'attack.{name}': f'--config.attack.kind={" or ".join(kinds)}'
    for name, kinds in users.items()
    if kind not in kinds
  }
  chosen = [values['defense'][role] for role in PARTS]
  for name in defense_nodes():
    if name not in chosen:
      roles = [role for role, kinds in PARTS.items() if name in kinds]
      remedies[f'defense.{name}'] = ' or '.join(
        f'--config.defense.{role}={name}' for role in roles
      )
  defaults, found = _flat(default_config().to_dict()), _flat(values)
  return {
    path: _Option(value, defaults[path], remedy)
    for path, value in found.items()
    for start, remedy in remedies.items()
    if (path == start or path.startswith(f'{start}.'))
    and value != defaults.get(path, value)
  }


def _build(kind: type, values: Mapping[str, Any], path: str) -> Any:
  """An instance of `kind`; every mistake names its field."""
  try:
    return settings.build(kind, values, path)
  except KeyError as error:
    raise renamed.unknown(error.args[0], field_paths()) from None
  except TypeError as error:
    raise errors.UserError(f'config.{error}.') from None


def _attack(values: dict[str, Any]) -> AttackSettings:
  own = {field.name for field, _ in settings.fields(AttackSettings)}
  chosen = _build(
    AttackSettings, {name: values[name] for name in own}, 'attack.'
  )
  settings.check(chosen, 'attack')
  users = attack_fields()
  for name in values:
    if name not in own and name not in users:
      raise renamed.unknown(f'attack.{name}', field_paths())
  mine = {n: x for n, x in values.items() if chosen.kind in users.get(n, ())}
  method = _build(ATTACKS[chosen.kind], mine, 'attack.')
  settings.check(method, 'attack')
  return dataclasses.replace(chosen, method=method)


def _defense(values: dict[str, Any]) -> DefenseSettings:
  nodes = defense_nodes()
  chosen = {name: x for name, x in values.items() if name not in nodes}
  names = _build(DefenseChoice, chosen, 'defense.')
  settings.check(names, 'defense')
  for name, kind in nodes.items():  # also of parts that are not chosen
    _build(kind, values[name], f'defense.{name}.')
  parts = {}
  for role, kinds in PARTS.items():
    name = getattr(names, role)
    path = f'defense.{name}'
    parts[role] = _build(kinds[name], values.get(name, {}), f'{path}.')
    settings.check(parts[role], path)
  return DefenseSettings(**parts, names=names)
