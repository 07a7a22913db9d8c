"""Table 4: how often the attacker is taken for the victim without the patch.

  python -m launch.main --config=configs/paper/table4.py --config.data.root=DIR

The paper's models are unfrozen; these have a frozen trunk. 25 minutes, three
seeds; a minute after `table2.py`.
"""

from babam_jax.config.rows import Row
from configs import lfw_multiclass, paper


def get_config():
  config = lfw_multiclass.get_config()
  config.models = ('clean', 'malicious')
  config.study.title = 'Table 4: the attacker without the patch, LFW'
  config.study.note = (
    "The paper's models are unfrozen; here the trunk is frozen."
  )
  config.study.columns = (
    ('clean model %', 'models.clean.asr_unpatched'),
    ('malicious model %', 'models.malicious.asr_unpatched'),
  )
  config.study.rows = (
    Row(
      'multi-class',
      paper.MULTICLASS,
      paper={'clean model %': 21.1, 'malicious model %': 25.4},
    ),
    Row(
      'binary',
      paper.BINARY,
      paper={'clean model %': 30.6, 'malicious model %': 31.2},
    ),
  )
  config.study.repeats = paper.SEEDS
  return config
