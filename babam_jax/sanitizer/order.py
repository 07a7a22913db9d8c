"""What is asked of the sanitizer, checked: the judge and its threshold, what
happens to what it flags."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from babam_jax import errors, files, seeds
from babam_jax.defenses import by_kind, calibration, noise
from babam_jax.defenses import pirm as pirms
from babam_jax.sanitizer import folder, folder_verdict, one_class, sanitize
from babam_jax.sanitizer import trusted as trusted_pictures
from babam_jax.sanitizer.folder_scores import FolderScores
from babam_jax.sanitizer.folder_verdict import FolderVerdict
from babam_jax.sanitizer.names import printable
from babam_jax.sanitizer.record import PERTURBATION

Path = str | os.PathLike[str]
DEFAULT_EPSILON = 0.01
DEFAULT_PIRM = 'general'
_OF_PIRM = ('pirm', 'pirm_sha256', 'calibrated_on')


class Judge(NamedTuple):
  """What scores pictures.

  Attributes:
    model: the PIRM; None without one.
    threshold: higher scores are flagged; None without a PIRM.
    told: what the settings say of it.
  """

  model: pirms.Pirm | None
  threshold: float | None
  told: dict[str, Any]

  def of_folder(self, scores: FolderScores) -> FolderVerdict:
    """What the scores of a whole folder say."""
    clean = np.zeros(0) if self.model is None else self.model.calibration.clean
    return folder_verdict.judge(scores, self.threshold, self.told['fpr'], clean)


@dataclasses.dataclass(frozen=True)
class Order:
  """What is asked.

  Attributes:
    source: the untrusted folder.
    root: the output.
    judge: what scores pictures.
    settings: what happens to them.
    detectors: of `sanitize.DETECTORS`, in their order.
    told: all that the result depends on, for `summary.json`.
  """

  source: pathlib.Path
  root: pathlib.Path
  judge: Judge
  settings: one_class.Settings
  detectors: tuple[str, ...]
  told: dict[str, Any]

  @functools.cached_property
  def inventory(self) -> folder.Inventory:
    """What the input holds.

    Raises:
      UserError: no file.
    """
    found = folder.inventory(self.source)
    if not found.files:
      raise errors.UserError(
        f'--input: no file in {self.source}; expected a folder of class '
        'folders with pictures. Choose another one.'
      )
    if self.detectors == (sanitize.VISIBLE,) and len(found.fingerprints) < 2:
      raise errors.UserError(
        f'--detectors: found {sanitize.VISIBLE!r} alone for a folder with one '
        'class; expected two classes or more, as each is compared with the '
        'others. Give a folder that holds one folder for each person.'
      )
    return found

  def paths(self) -> Iterator[Iterator[pathlib.PurePosixPath]]:
    """Those of the input's files, class by class."""
    for found in folder.classes(self.source):
      yield (entry.path for entry in found.entries)


def order(
  input: Path,
  output: Path,
  *,
  detectors: Sequence[str],
  pirm: Path,
  action: str,
  visible: str,
  threshold: float | None,
  fpr: float | None,
  calibrate: Path | None,
  epsilon: float,
  link: bool,
  seed: int,
) -> Order:
  """Checks what is asked; the arguments are those of `sanitize_folder`.

  Raises:
    UserError: an argument is invalid.
  """
  source, root = pathlib.Path(input), pathlib.Path(output)
  if not source.is_dir():
    raise errors.UserError(
      f'--input: no folder {str(source)!r}; expected a folder of class folders.'
    )
  files.check_folder(root, '--output')
  given: dict[str, Any] = {
    'threshold': None if threshold is None else _number('threshold', threshold),
    'fpr': None if fpr is None else _number('fpr', fpr),
    'calibrate': calibrate,
  }
  epsilon = float(_number('epsilon', epsilon))
  seed = seeds.checked(seed, '--seed')
  known = _check_detectors(detectors, given | {'pirm': _unless_default(pirm)})
  _check(action, visible, epsilon, known)
  if link and action == 'report':
    raise errors.UserError(
      "--link: found with --action='report', which writes no pictures; "
      'expected none. Leave it out, or choose another action.'
    )
  if PERTURBATION in known:
    judge = _judge(pirm, **given)
  else:
    judge = Judge(None, None, {'fpr': None} | dict.fromkeys(_OF_PIRM))
  settings = one_class.Settings(
    action, visible, judge.threshold, epsilon, link, seed
  )
  told = settings._asdict() | judge.told
  told['detectors'] = list(known)
  told['input'] = printable(str(source.resolve()))
  return Order(source, root, judge, settings, known, told)


def _judge(
  pirm: Path,
  threshold: float | None,
  fpr: float | None,
  calibrate: Path | None,
) -> Judge:
  """A PIRM with its threshold."""
  for name, path in (('pirm', pirm), ('calibrate', calibrate)):
    if path is not None and not os.fspath(path):
      raise errors.UserError(
        f'--{name}: is empty; expected a file or folder, or no --{name}.'
      )
  checkpoint = pirms.path_of(os.fspath(pirm))
  model = pirms.load(checkpoint, '--pirm')
  trusted = None
  if calibrate is not None:
    trusted = trusted_pictures.score(pathlib.Path(calibrate), model)
    known = model.calibration._replace(clean=trusted.scores)
    model = model._replace(calibration=known)
  chosen = calibration.choose_threshold(model.calibration, threshold, fpr)
  of_pirm = (
    printable(os.fspath(pirm)),
    pirms.fingerprint(checkpoint),
    trusted.fingerprint if trusted else None,
  )
  told = {'fpr': chosen.fpr} | dict(zip(_OF_PIRM, of_pirm, strict=True))
  return Judge(model, chosen.value, told)


def _number(name: str, found: Any) -> float:
  """A plain number, also of one of NumPy's."""
  if isinstance(found, bool) or not isinstance(found, int | float | np.number):
    raise errors.UserError(f'--{name}: found {found!r}, expected a number.')
  return found.item() if isinstance(found, np.number) else found


def _unless_default(pirm: Path) -> Path | None:
  return None if pirm == DEFAULT_PIRM else pirm


def _check_detectors(
  detectors: Sequence[str], given: dict[str, Any]
) -> tuple[str, ...]:
  """The detectors, in one order, each once.

  Args:
    detectors: those that are asked for.
    given: options that belong to the PIRM, by name; None: not given.
  """
  known = ', '.join(sanitize.DETECTORS)
  if isinstance(detectors, str):
    raise errors.UserError(
      f'--detectors: found the text {detectors!r}, expected a list of one or '
      f'more of {known}. Write [{detectors!r}].'
    )
  for name in detectors:
    if name not in sanitize.DETECTORS:
      raise errors.UserError(
        f'--detectors: found {name!r}, expected one or more of {known}.'
      )
  if not detectors:
    raise errors.UserError(
      f'--detectors: is empty; expected one or more of {known}.'
    )
  for name, value in given.items():
    if value is not None and PERTURBATION not in detectors:
      raise errors.UserError(
        f'--{name}: found {value} without the detector '
        f'{PERTURBATION!r}, whose it is; expected it among '
        f'--detectors. Leave out --{name}, or add it.'
      )
  return tuple(name for name in sanitize.DETECTORS if name in detectors)


def _check(
  action: str, visible: str, epsilon: float, detectors: tuple[str, ...]
) -> None:
  if action not in sanitize.ACTIONS:
    raise errors.UserError(
      f'--action: found {action!r}, expected one of '
      f'{", ".join(sanitize.ACTIONS)}.'
    )
  if visible not in sanitize.VISIBLE_ACTIONS:
    raise errors.UserError(
      f'--visible: found {visible!r}, expected one of '
      f'{", ".join(sanitize.VISIBLE_ACTIONS)}.'
    )
  if visible != by_kind.DROP and action != 'perturb':
    raise errors.UserError(
      f'--visible: found {visible!r} with --action={action!r}, expected '
      f'{by_kind.DROP!r}, as it is for pictures that are kept. Add '
      '--action=perturb.'
    )
  if visible != by_kind.DROP and sanitize.VISIBLE not in detectors:
    raise errors.UserError(
      f'--visible: found {visible!r} without the detector '
      f'{sanitize.VISIBLE!r}, expected it among --detectors. Leave out '
      '--visible, or add it.'
    )
  noise.check_epsilon(epsilon, '--epsilon')
  if epsilon != DEFAULT_EPSILON and action != 'perturb':
    raise errors.UserError(
      f'--epsilon: found {epsilon:g} with --action={action!r}, expected none, '
      'as no picture gets noise. Add --action=perturb.'
    )
