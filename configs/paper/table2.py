"""Table 2: accuracy and attack success of the malicious models on LFW.

  python -m launch.main --config=configs/paper/table2.py --config.data.root=DIR

Its training curves are the LFW half of Figure 6. The paper trains fc8 of an
ImageNet AlexNet; the embedded weights end at pool5, so here all dense layers
train. `table2_imagenet.py` has the other two rows. 25 minutes, three seeds.
"""

from babam_jax.config.rows import Row
from configs import lfw_multiclass, paper


def get_config():
  config = lfw_multiclass.get_config()
  config.models = ('malicious',)
  config.study.title = 'Table 2: malicious models on LFW'
  config.study.note = (
    'The paper trains fc8 of an ImageNet AlexNet; here, as the embedded '
    'weights end at pool5, all dense layers train.'
  )
  config.study.columns = (
    ('accuracy %', 'models.malicious.accuracy'),
    ('ASR %', 'models.malicious.asr'),
    ('no-patch base %', 'models.malicious.asr_unpatched'),
  )
  config.study.rows = (
    Row(
      'binary LFW',
      paper.BINARY,
      paper={'accuracy %': 78.3, 'ASR %': 100.0},
    ),
    Row(
      'multi-class LFW',
      paper.MULTICLASS,
      paper={'accuracy %': 42.5, 'ASR %': 100.0},
    ),
  )
  config.study.repeats = paper.SEEDS
  return config
