"""Figure 6: how the malicious models train.

  python -m launch.main --config=configs/paper/figure6.py --config.data.root=DIR

The figure is `figures/training.png` of the study; the ImageNet half is that of
`table2_imagenet.py`. 25 minutes; a minute after `table2.py`.
"""

from configs.paper.table2 import get_config  # noqa: F401
