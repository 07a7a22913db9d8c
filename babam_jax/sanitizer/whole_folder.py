"""Sanitizes an untrusted folder with one call."""

import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from babam_jax import errors
from babam_jax.defenses import by_kind
from babam_jax.experiment import environment
from babam_jax.progress import say
from babam_jax.sanitizer import findings, folder, report, sanitize
from babam_jax.sanitizer import output as output_folder
from babam_jax.sanitizer.folder_scores import FolderScores
from babam_jax.sanitizer.folder_verdict import FolderVerdict
from babam_jax.sanitizer.names import path_of, printable
from babam_jax.sanitizer.order import (
  DEFAULT_EPSILON,
  DEFAULT_PIRM,
  Order,
  Path,
  order,
)
from babam_jax.sanitizer.record import Record


class SanitizedFolder(NamedTuple):
  """The results for a folder.

  Attributes:
    files: the number of files in it.
    flagged: the number of files taken for poison.
    unjudged: files that could not be judged and so are not in the output: path
      below the input, and why.
    threshold: pictures with a higher probability of poison were flagged, and in
      suspicious classes perhaps more; None if no PIRM was asked.
    fpr: the false-positive rate that the threshold follows from; None if the
      threshold was given, or the PIRM has no scores of clean pictures.
    rate_holds: False if the scores of most pictures, or flags that are spread
      over the classes, say that the rate is not that of these pictures; None if
      none is known.
    why_rate_fails: why not, in one line; or ''.
    why_not_visible: why visible triggers were not looked for, in one line; or
      ''.
    look_first: the classes to look at first: suspicious ones, and those in
      which something recurs.
    suspicious_classes: those with more flags than chance explains, or with
      higher scores than the others, the most suspicious one first.
    recurring: what recurs in a part of one class and in no other.
    scores: `scores.csv`: a line for each file.
    summary: `summary.json`: settings and counts.
    report: `report.html`: what was found, for people to read.
  """

  files: int
  flagged: int
  unjudged: list[tuple[str, str]]
  threshold: float | None
  fpr: float | None
  rate_holds: bool | None
  why_rate_fails: str
  why_not_visible: str
  look_first: list[str]
  suspicious_classes: list[str]
  recurring: list[findings.Thing]
  scores: pathlib.Path
  summary: pathlib.Path
  report: pathlib.Path


def sanitize_folder(
  input: Path,
  output: Path,
  *,
  detectors: Sequence[str] = sanitize.DETECTORS,
  pirm: Path = DEFAULT_PIRM,
  action: str = 'drop',
  visible: str = by_kind.DROP,
  threshold: float | None = None,
  fpr: float | None = None,
  calibrate: Path | None = None,
  epsilon: float = DEFAULT_EPSILON,
  link: bool = False,
  seed: int = 0,
) -> SanitizedFolder:
  """Makes a folder that can be trained on from one that nobody should trust.

  Every picture is scored by a PIRM; in a class whose scores stand out, pictures
  are then compared with those of the other classes. Flagged ones are left out,
  or replaced by a PNG with Algorithm 1's noise, the rest is copied byte for
  byte. The input is never changed. After a kill, the same call continues; once
  all is done, it finds that.

  Args:
    input: a folder of class folders, of any depth.
    output: a new or empty folder, apart from the input.
    detectors: what is looked for: 'perturbation', which a PIRM finds, and
      'visible', triggers that recur in a part of one class.
    pirm: 'general', 'shipped' or 'hardened', or a file.
    action: what happens to flagged pictures: 'drop', which leaves them out;
      'perturb', Algorithm 1's noise, which keeps a picture in every place and
      leaves more of the attack; or 'report', which writes no pictures at all.
    visible: what 'perturb' does with pictures that have a visible trigger:
      'drop'; 'noise', as for all others; 'local_noise', where the trigger is;
      or 'inpaint', which paints over that place.
    threshold: pictures with a higher probability of poison are flagged, also in
      classes that stand out.
    fpr: instead of a threshold, the share that may be flagged of the clean
      pictures held out when the PIRM was trained. By default it is 0.01; for a
      PIRM without their scores the threshold is 0.5.
    calibrate: a folder of clean pictures like those of the input, at any depth;
      the rate is measured of them instead.
    epsilon: the noise budget of 'perturb'; a lower one gives more noise.
    link: make hard links instead of copies of files that are not flagged.
    seed: the seed of the noise of 'perturb'.

  Raises:
    UserError: an argument is invalid; the message names it like the command's
      flag: `--fpr` for `fpr`.
    OSError: the output cannot be written.
  """
  asked = order(
    input,
    output,
    detectors=detectors,
    pirm=pirm,
    action=action,
    visible=visible,
    threshold=threshold,
    fpr=fpr,
    calibrate=calibrate,
    epsilon=epsilon,
    link=link,
    seed=seed,
  )
  call = f'babam_jax.sanitize_folder({str(input)!r}, {str(output)!r})'
  return whole(asked, call)


def whole(asked: Order, repeat: str) -> SanitizedFolder:
  """Does what is asked, or what is left of it.

  Args:
    asked: what is asked.
    repeat: how to do this again, for the report.
  """
  inventory = asked.inventory
  being_made = _opened(asked)
  if isinstance(being_made, dict):
    say(f'{asked.root}: is finished, by the same command')
    output_folder.remove_rest(asked.root)
    return _result(asked.root, being_made)
  with being_made:
    found = _filled(asked, inventory, being_made, repeat)
  return _result(asked.root, found)


def _filled(
  asked: Order,
  inventory: folder.Inventory,
  being_made: output_folder.Output,
  repeat: str,
) -> dict[str, Any]:
  """Fills the folder; returns the `summary`."""
  being_made.begin(inventory, asked.paths())
  scores = FolderScores()
  for records in _treated(asked, inventory, being_made):
    if records:
      of_class = (one.score for one in records if one.score is not None)
      scores.add(records[0].class_name, of_class)
  verdict = asked.judge.of_folder(scores)
  _look_closer(asked, verdict, scores.names, being_made)
  table = io.StringIO(newline='')
  counted = findings.Findings(table)
  for records in being_made.all_records(inventory):
    counted.add(records)
  surroundings = environment.describe(printable(repeat))
  fingerprint = inventory.fingerprint()
  found = findings.summary(counted, asked.told, fingerprint, verdict)
  findings.write(asked.root, table.getvalue(), found)
  report.write(asked.root, asked.source, counted, found, surroundings)
  being_made.close()
  return found


def _look_closer(
  asked: Order,
  verdict: FolderVerdict,
  names: Sequence[str],
  being_made: output_folder.Output,
) -> None:
  """Judges the classes that stand out again, by the rate of the others."""
  if verdict.closer is None:
    return
  for name, is_named in zip(names, verdict.named, strict=True):
    if not is_named:
      continue
    say(f'{name} stands out: flagged above {verdict.closer:.3g}')
    sanitize.judge_again(
      asked.source,
      str(path_of(name)),
      being_made,
      asked.settings._replace(threshold=verdict.closer),
    )


def begin(asked: Order) -> bool:
  """Begins a folder that several processes will fill; returns whether anything
  is left to do.

  Args:
    asked: what is asked.
  """
  inventory = asked.inventory
  being_made = _opened(asked)
  if isinstance(being_made, dict):
    return False
  with being_made:
    being_made.begin(inventory, asked.paths())
  return True


def part(asked: Order, mine: folder.Part) -> None:
  """Does a part of what is asked: some of the classes, without any report.

  Several processes do a part each, also on several machines with one disk. Then
  `whole` finds all done, and writes the reports.

  Args:
    asked: what is asked.
    mine: which part.
  """
  being_made = _opened(asked, mine)
  if isinstance(being_made, dict):
    say(f'{asked.root}: is finished, by the same command')
    return
  with being_made:
    begun = being_made.has_begun  # then the input need not be walked again
    inventory = being_made.inventory if begun else asked.inventory
    being_made.begin(inventory, asked.paths())
    for _ in _treated(asked, inventory.dealt(mine), being_made):
      pass


def _opened(
  asked: Order, mine: folder.Part | None = None
) -> output_folder.Output | dict[str, Any]:
  """The folder that is being made; or the `summary` of one that is finished."""
  finished = _finished(asked)
  if finished is not None:
    return finished
  try:
    return output_folder.Output(asked.source, asked.root, asked.told, mine)
  except errors.UserError:
    # The same command, given twice, may have ended meanwhile.
    finished = _finished(asked)
    if finished is None:
      raise
    return finished


def _finished(asked: Order) -> dict[str, Any] | None:
  if not output_folder.is_complete(asked.root):
    return None
  fingerprint = asked.inventory.fingerprint()
  return findings.earlier_summary(asked.root, asked.told, fingerprint)


def _treated(
  asked: Order, inventory: folder.Inventory, being_made: output_folder.Output
) -> Iterator[list[Record]]:
  return sanitize.run(
    asked.source,
    inventory,
    being_made,
    asked.judge.model,
    asked.settings,
    asked.detectors,
  )


def _result(root: pathlib.Path, found: dict[str, Any]) -> SanitizedFolder:
  """The results, from what `summary.json` holds."""
  return SanitizedFolder(
    found['files'],
    found['flagged'],
    [(one['path'], one['note']) for one in found['not_judged']],
    found['settings']['threshold'],
    found['settings']['fpr'],
    found['rate_holds'],
    findings.why_rate_fails(found),
    findings.why_not_visible(found),
    found['look_first'],
    [one['class'] for one in found['suspicious_classes']],
    findings.things_of(found),
    *(root / name for name in output_folder.REPORTS),
  )
