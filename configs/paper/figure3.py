"""Figure 3: a clean and a poisoned picture of the victim under more noise.

  python -m launch.main --config=configs/paper/figure3.py --config.data.root=DIR

The figure is `figures/noise.png` of the run. Seven minutes.
"""

from configs.lfw_multiclass import get_config  # noqa: F401
