"""Table 7: BA-BAM beside RAB, RAP and STRIP.

  python -m launch.main --config=configs/paper/table7.py --config.data.root=DIR

The paper quotes figures that others published on other data, and describes cost
in words. Here all four defenses get the same poisoned faces, and the cost is
measured: they are the rows of `configs/bench_lfw.py` that the paper names. An
hour; a minute after that study.
"""

from configs import bench_lfw

_DEFENSES = ('no defense', 'BA-BAM', 'RAB', 'RAP on inputs', 'STRIP on inputs')
_HEADINGS = (
  'ASR %',
  'accuracy drop %',
  'TPR %',
  'FPR %',
  'seconds',
  'evaluations a training picture',
  'evaluations an input',
)


def get_config():
  config = bench_lfw.get_config()
  config.study.title = 'Table 7: defenses that the paper compares, LFW'
  config.study.columns = tuple(
    column for column in config.study.columns if column[0] in _HEADINGS
  )
  config.study.tradeoff = ()
  config.study.rows = tuple(
    row for row in config.study.rows if row.label in _DEFENSES
  )
  return config
