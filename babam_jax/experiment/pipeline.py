"""The experiment, from pictures to report: read this to see the paper."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from babam_jax import files
from babam_jax.config import rules
from babam_jax.evaluation import metrics, report, table
from babam_jax.experiment import (
  attack_stages,
  cost,
  environment,
  evaluation_stages,
  flagging,
  hardening,
  input_checks,
  stages,
  story,
)
from babam_jax.experiment.lab import Lab, join
from babam_jax.pirm_training import pirm_stages
from babam_jax.store.artifacts import Store


def run(
  config: ConfigDict,
  workdir: pathlib.Path,
  artifacts: pathlib.Path,
  command: str,
) -> dict[str, Any]:
  """Runs the experiment; reuses every stage that has been made before.

  Args:
    config: the experiment (see `configs/common.py`).
    workdir: where results go: `config.json`, `metrics.json`,
      `environment.json`, `report.html`, `figures/`, `training/`.
    artifacts: where stage results are kept and found.
    command: how to repeat the run, for the report.

  Returns:
    What is written to `metrics.json`.

  Raises:
    UserError: the config, the data or the folders are not as expected.
  """
  rules.check(config)
  rules.check_pirm(config)
  rules.check_weights(config)
  rules.check_workdir(workdir, config)
  lab = Lab(config, Store(artifacts), workdir)

  # The face data: who attacks whom (4.2, 4.3).
  data = stages.load_scenario(lab)
  detectors = pirm_stages.obtain_pirms(lab)
  rules.write_config(workdir, config)

  # The attack: hidden-trigger poison slips into the training set (3.3).
  poison = attack_stages.craft_poison(lab, data)
  untrusted = join(data.train, poison)

  # The defense: flag, and add calibrated noise to what is flagged (3.6).
  scored = stages.score(lab, detectors, untrusted, data)
  flagged = flagging.flag(lab, scored, untrusted, data)
  sanitized = stages.sanitize(lab, untrusted, flagged.flags, flagged.artifact)

  # The recognizers: without attack, under attack, behind the defense.
  training_sets = {
    'clean': data.train,
    'malicious': untrusted,
    'protected': sanitized,
  }
  models = stages.train_recognizers(lab, training_sets)

  # The judgment: the attacker comes with the trigger (4.5). Other defenses
  # than BA-BAM may have changed the protected model, or check its inputs.
  patched = attack_stages.patch_test_pictures(lab, data)
  models = hardening.harden(lab, models, sanitized, data, patched)
  refused = input_checks.check(lab, models, data, patched)
  judged = {
    name: evaluation_stages.evaluate(
      lab, model, data, patched, refused.get(name)
    )
    for name, model in models.items()
  }
  results = {
    'models': judged,
    'pirm': evaluation_stages.evaluate_pirm(
      lab, detectors[0][0], scored, untrusted, data
    ),
    'detection': evaluation_stages.evaluate_defense(
      lab, flagged, untrusted, refused.get('protected')
    ),
    'found': hardening.findings(lab, models),
    'cost': cost.of_defense(lab),
    'poison': poison.sources[0].artifact.json('summary')
    | {'count': len(poison.examples)},
    'weights': {
      'recogniser': models[config.models[0]].artifact.json('origin'),
      'surrogate': poison.sources[0].artifact.json('origin'),
    },
    'accuracy_drop': metrics.accuracy_drop(judged),
    'defense_effectiveness': metrics.defense_effectiveness(judged),
    'flagged': int(flagged.flags.sum()),
    'stages': lab.store.account(),
    'seed': config.seed,
  }
  surroundings = environment.describe(command)
  files.write_json(workdir / 'environment.json', surroundings)
  print(table.render(results))

  # The story, in pictures.
  told = story.tell(
    lab, data, poison, scored, flagged, sanitized, untrusted, patched
  )
  histories = {n: m.history for n, m in models.items() if m.history}
  drawn = story.draw(told, results, histories, config.pirm.threshold)
  report.write(workdir, results, config.to_dict(), surroundings, drawn)
  files.write_json(workdir / 'metrics.json', results)  # last: all is there
  return results
