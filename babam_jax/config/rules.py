"""Rules between fields, and checks of the files that a config names, before
anything is computed or written. The range of a single field is beside its
definition."""

import dataclasses
import itertools
import json
import pathlib

from ml_collections import ConfigDict

from babam_jax import errors, files
from babam_jax.config import schema
from babam_jax.config.schema import Experiment
from babam_jax.data import datasets
from babam_jax.defenses.base import Need
from babam_jax.models import heads
from babam_jax.models.pretrained import weights
from babam_jax.settings import refuse

_SHOWN = 200  # characters of a line that differs


def check(config: ConfigDict) -> Experiment:
  """Checks all fields, alone and together; needs no data and no files.

  Returns:
    The experiment that the config describes.

  Raises:
    UserError: a field is out of its range; the message names it.
  """
  experiment = schema.typed(config)
  data = experiment.data
  if not datasets.is_known(data.name):
    refuse('data.name', data.name, f'one of {datasets.KNOWN}')
  data.check('data')
  experiment.attack.method.check('attack', data.size)
  experiment.recognizer.check('recognizer', data.size)
  _check_defense(experiment)
  return experiment


def _check_defense(experiment: Experiment) -> None:
  defense = experiment.defense
  for role, name, part in defense.parts():
    part.check(f'defense.{name}', experiment.recognizer)
    fraction = experiment.scenario.trusted_fraction
    if Need.TRUSTED in part.needs and not fraction:
      refuse(
        'scenario.trusted_fraction',
        fraction,
        f'a fraction above 0: config.defense.{role}, {name!r}, needs trusted '
        'pictures',
      )
  if experiment.recognizer.head == heads.NEAREST_MEAN:
    may = {
      'trainer': ('plain', defense.trainer.only_feeds),
      'repair': ('none', defense.names.repair == 'none'),
    }
    for role, (plain, is_well) in may.items():
      found = getattr(defense.names, role)
      if not is_well:
        refuse(
          f'defense.{role}',
          found,
          f'{plain!r}, as nothing trains with config.recognizer.head, '
          f'{heads.NEAREST_MEAN!r}',
        )
  needing_network = {
    'repair': defense.names.repair != 'none',
    'input_check': Need.MODEL in defense.input_check.needs,
  }
  for role, needs_network in needing_network.items():
    if needs_network and not defense.trainer.gives_network:
      refuse(
        f'defense.{role}',
        getattr(defense.names, role),
        f"'none', as config.defense.trainer, {defense.names.trainer!r}, does "
        'not give one network',
      )


def check_files(experiment: Experiment) -> None:
  """Checks that the files exist that the config names.

  Raises:
    UserError: pretrained weights, a PIRM, or pictures to train a PIRM on are
      missing; the message says how to get them.
  """
  chosen = experiment.recognizer
  weights.fingerprint(chosen.model, chosen.pretrained, 'config.recognizer')
  experiment.attack.method.facts('config.attack')
  for _, name, part in experiment.defense.parts():
    part.facts(f'config.defense.{name}')
  if experiment.defense.trains_a_pirm:
    experiment.pirm.check(experiment.data.size)


def as_json(config: ConfigDict) -> str:
  """The config as it is written to `config.json`."""
  text = json.dumps(
    config.to_dict(), default=dataclasses.asdict, indent=2, sort_keys=True
  )
  return text + '\n'


def check_workdir(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Refuses a working folder that holds the results of another config.

  Raises:
    UserError: it does; the message names the first field that differs.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return
  found = path.read_text('utf-8', 'replace')  # it may be damaged
  if found == as_json(config):
    return
  there, here = next(
    (a, b)
    for a, b in itertools.zip_longest(
      found.split('\n'), as_json(config).split('\n'), fillvalue='nothing'
    )
    if a != b
  )
  raise errors.UserError(
    f'--workdir: {workdir} belongs to another config (there '
    f'{there.strip()[:_SHOWN]} here {here.strip()[:_SHOWN]}); expected the '
    'same config or a new folder. Choose another --workdir; what both runs '
    'share is reused all the same.'
  )


def write_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Writes `config.json`."""
  files.write_text(workdir / 'config.json', as_json(config))
