"""Identification of the 12 people of LFW with 50 or more pictures.

python -m launch.main --config=configs/lfw_multiclass.py
"""

from configs import common


def get_config():
  config = common.get_config()
  config.data.name = 'lfw'
  config.data.min_images = 50
  config.scenario.source = 'Colin_Powell'
  config.scenario.target = 'George_W_Bush'
  config.recognizer.width = 1024
  return config
