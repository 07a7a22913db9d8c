"""Verification, 1:1: is this the person that he says he is?

A picture is compared with the template of the claimed person; it is accepted
above a threshold, which is chosen by how many false claims may pass. Pairs are
of all test pictures with all people's templates; those of the attacker with the
victim's template are judged, and choose no threshold: the attack would hide
itself.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

# The rates at which thresholds are chosen, by their names in `metrics.json`.
FALSE_ACCEPTS = {'at_far_1e-2': 0.01, 'at_far_1e-3': 0.001}

Likeness = Float[np.ndarray, 'n c']


def judge(
  likeness: Likeness,
  labels: Int[np.ndarray, ' n'],
  is_attacker: Bool[np.ndarray, ' n'],
  target: int,
  patched: Float[np.ndarray, ' k'],
  unpatched: Float[np.ndarray, ' m'],
) -> dict[str, Any]:
  """How well people are verified, and how often the attacker is accepted.

  Args:
    likeness: of the test pictures with the templates of all classes.
    labels: the true classes of the test pictures.
    is_attacker: which test pictures show the attacker, if he is enrolled.
    target: the victim's class.
    patched: the likeness of the attacker's pictures with the trigger with the
      victim's template.
    unpatched: that of the same pictures without it. An input that is refused
      is like nobody: -1.

  Returns:
    `pairs`, true and false ones; `eer`; for each of `FALSE_ACCEPTS`:
    `threshold`, `far` (false claims that pass it: the rate or less), `tar`
    (true claims that pass), `accepted` (the patched attacker who passes as the
    victim), `accepted_unpatched`; None where there are too few false pairs for
    one to pass.
  """
  is_true = np.arange(likeness.shape[1]) == labels[:, None]
  is_false = ~is_true
  is_false[is_attacker, target] = False
  true, false = likeness[is_true], likeness[is_false]
  found: dict[str, Any] = {
    'pairs': {'true': len(true), 'false': len(false)},
    'eer': equal_error_rate(true, false),
  }
  for name, rate in FALSE_ACCEPTS.items():
    threshold = _threshold(false, rate)
    found[name] = {
      'threshold': threshold,
      'far': _accepted(false, threshold),
      'tar': _accepted(true, threshold),
      'accepted': _accepted(patched, threshold),
      'accepted_unpatched': _accepted(unpatched, threshold),
    }
  return found


def _threshold(false: Float[np.ndarray, ' n'], rate: float) -> float | None:
  """The least that no more than a share of false claims lie above; None where
  that share is less than one claim."""
  passing = int(rate * len(false) + 1e-9)
  return float(np.sort(false)[-1 - passing]) if passing else None


def _accepted(
  claims: Float[np.ndarray, ' n'], threshold: float | None
) -> float | None:
  """The share of claims above a threshold; None without claims, or one."""
  if threshold is None or not len(claims):
    return None
  return float((claims > threshold).mean())


def equal_error_rate(
  true: Float[np.ndarray, ' n'], false: Float[np.ndarray, ' m']
) -> float | None:
  """The rate at which as many true claims are refused as false ones accepted;
  linear between thresholds, None without claims of both kinds."""
  if not len(true) or not len(false):
    return None
  thresholds = np.unique(np.concatenate([true, false]))
  refused = np.searchsorted(np.sort(true), thresholds, 'right') / len(true)
  accepted = 1 - np.searchsorted(np.sort(false), thresholds, 'right') / len(
    false
  )
  # Before the first threshold nobody is refused and everybody accepted.
  refused, accepted = np.append(0.0, refused), np.append(1.0, accepted)
  gap = refused - accepted
  after = int(np.argmax(gap >= 0))
  before = after - 1
  share = -gap[before] / (gap[after] - gap[before])
  return float(refused[before] + share * (refused[after] - refused[before]))
