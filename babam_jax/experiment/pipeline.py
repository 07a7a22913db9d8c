"""The experiment, from pictures to report: read this to see the paper."""

import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from babam_jax import files
from babam_jax.config import rules
from babam_jax.evaluation import metrics, report, table
from babam_jax.experiment import (
  defending,
  environment,
  face_data,
  features,
  judging,
  poisoning,
  recognizing,
  story,
)
from babam_jax.store.artifacts import Store
from babam_jax.store.lab import Lab, join


def run(
  config: ConfigDict,
  workdir: str | os.PathLike[str],
  artifacts: str | os.PathLike[str],
  command: str = 'babam_jax.run_experiment(config, workdir, artifacts)',
) -> dict[str, Any]:
  """Runs the experiment; reuses every stage that has been made before.

  Args:
    config: the experiment (see `babam_jax/config/schema.py`).
    workdir: the folder of results: `config.json`, `metrics.json`,
      `environment.json`, `report.html`, `figures/`, `training/`.
    artifacts: where stage results are kept and found.
    command: how to repeat the run, for the report.

  Returns:
    What is written to `metrics.json`.

  Raises:
    UserError: the config, the data or the folders are not as expected.
  """
  workdir = pathlib.Path(workdir)
  experiment = rules.check(config)
  rules.check_files(experiment)
  rules.check_workdir(workdir, config)
  lab = Lab(experiment, Store(pathlib.Path(artifacts)), workdir)

  # The face data: who attacks whom (4.2, 4.3).
  data = face_data.load(lab)
  rules.write_config(workdir, config)

  # The attack: hidden-trigger poison slips into the training set (3.3), and
  # the attacker comes with the trigger (4.5).
  poison = poisoning.craft(lab, data)
  untrusted = join(data.train, poison)
  shown = poisoning.show(lab, data, poison)

  # The recognizers without a defense: without attack, and under attack.
  stored = features.StoredInputs(lab)
  stored.add(data.train, data.test, data.trusted, untrusted, shown)
  training_sets = {'clean': data.train, 'malicious': untrusted}
  models = recognizing.train_all(lab, stored, data, training_sets)
  undefended = judging.judge_all(models, data, shown)

  # The defense: flag pictures, and add calibrated noise to them (3.6); or
  # whatever five parts the config chooses.
  before = set(lab.store.used)
  defended = defending.defend(lab, stored, untrusted, data, models)
  refused = defending.check_inputs(lab, stored, defended.model, data, shown)

  # The judgment.
  judged, found = judging.judge_defended(
    defended, undefended, data, shown, refused
  )
  models = judging.in_order(lab, models, defended)
  results = {
    'models': {name: judged[name] for name in models},
    'pirm': judging.judge_pirm(defended.detection, untrusted, data),
    'detection': judging.judge_detection(
      lab, defended.detection, untrusted, refused
    ),
    'input_check': judging.judge_input_check(refused),
    'found': found,
    'cost': judging.cost_of_defense(lab, defended, refused, before, untrusted),
    'poison': poison.sources[0].artifact.json('summary')
    | {'count': len(poison.examples)},
    'weights': judging.weights_used(models, poison),
    'accuracy_drop': metrics.accuracy_drop(judged),
    'defense_effectiveness': metrics.defense_effectiveness(judged),
    'flagged': int(defended.detection.train.flags.sum()),
    'stages': lab.store.account(),
    'seed': experiment.seed,
  }
  surroundings = environment.describe(command)
  files.write_json(workdir / 'environment.json', surroundings)
  print(table.render(results))

  # The story, in pictures.
  told = story.tell(lab, data, poison, untrusted, defended, shown)
  histories = {n: m.history for n, m in models.items() if m.history}
  cut = experiment.defense.detector.cut
  drawn = story.draw(told, results, histories, cut)
  report.write(workdir, results, config.to_dict(), surroundings, drawn)
  files.write_json(workdir / 'metrics.json', results)  # last: the run is done
  return results
