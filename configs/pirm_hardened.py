"""Trains a PIRM against attackers who evade the two that are shipped.

  python -m launch.pirm --config=configs/pirm_hardened.py \
    --config.pirm.root=DIR --output=pirm_hardened.npz

Half of its poison was crafted with the evidence of `pirm_compact.npz` or
`pirm_general.npz` in the loss, so that these take it for clean; the rest of the
recipe is that of `pirm_general.py`, at a third of its size. It is used together
with the general one:
`defense.pirm.checkpoint='general'` with
`defense.pirm.ensemble=('hardened',)`.
"""

from configs import pirm_general

_ADAM = {'optimizer': 'adam'}
_EVADING = tuple(
  kind | {'adaptive.evade': 0.3, 'adaptive.pirm': known}
  for known in ('shipped', 'general')
  for kind in (
    {'eps': 16},
    {'eps': 16} | _ADAM,
    {'eps': 8},
    {'tap': 'fc7', 'eps': 16},
  )
)
KINDS = (
  {'eps': 16},
  {'eps': 16, 'trigger_size': 50} | _ADAM,
  {'eps': 8},
  {'eps': 6},
  {'eps': 34} | _ADAM | {'iterations': 30},
  {'tap': 'fc7', 'eps': 16},
  {'tap': 'fc7', 'eps': 8} | _ADAM,
  {
    'model': 'resnet18',
    'pretrained': 'none',
    'iterations': 40,
    'tap': 'layer4',
    'eps': 16,
  },
  *_EVADING,
)


def get_config():
  config = pirm_general.get_config()
  config.pirm.kinds = KINDS
  config.pirm.num_poison = 30 * len(KINDS)
  config.pirm.num_clean = 960
  config.pirm.epochs = 20
  return config
