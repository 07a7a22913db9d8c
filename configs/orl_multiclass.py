"""The whole paper on the ORL faces that come with a Python package.

python -m launch.main --config=configs/orl_multiclass.py
"""

from configs import common


def get_config():
  config = common.get_config()
  config.data.name = 'orl'
  config.scenario.source = 's2'
  config.scenario.target = 's1'
  config.scenario.poison_images = 4
  config.scenario.test_images = 3
  config.scenario.test_fraction = 0.3
  config.attack.passes = 15
  config.attack.iterations = 40  # a hundred make no stronger attack here
  config.attack.batch_size = 60
  config.recognizer.width = 1024
  # With the poison, the target's class is ten times as large as others.
  config.recognizer.logit_adjustment = 0.5
  config.recognizer.epochs = 30
  config.evaluation.positions = 20
  return config
