"""Which recognizers, and how much of them trains (sections 4.5 and 4.11)?

  python -m launch.sweep --config=configs/sweeps/architectures.py --workdir=DIR

On ORL; `architectures.py:lfw_multiclass` takes another experiment. Poison and
PIRM are the same in all runs. Meant for accelerators: on two CPU cores a run
in which all of a VGG or ResNet trains takes hours.
"""

import itertools

from configs.sweeps import base

# AlexNet and VGG16 start from their embedded ImageNet trunks.
MODELS = {'alexnet': 'trunk', 'vgg16': 'trunk', 'resnet18': 'none'}
FROZEN = ('trunk', 'none')


def get_config(experiment='orl_multiclass'):
  return base.experiment(experiment)


def sweep(config):
  del config
  for (model, pretrained), frozen in itertools.product(MODELS.items(), FROZEN):
    if pretrained == 'none' and frozen != 'none':
      continue  # nothing in a random trunk is worth freezing
    yield {
      'recognizer.model': model,
      'recognizer.pretrained': pretrained,
      'recognizer.frozen': frozen,
    }
