"""The experiment that a sweep starts from."""

import importlib
import pathlib

from ml_collections import ConfigDict


def experiment(name: str) -> ConfigDict:
  """The config of `configs/<name>.py`.

  Raises:
    ValueError: there is none.
  """
  folder = pathlib.Path(__file__).parents[1]
  known = sorted(path.stem for path in folder.glob('*_*class.py'))
  known += sorted(path.stem for path in folder.glob('*_binary.py'))
  if name not in known:
    raise ValueError(
      f'--config=FILE:{name}: found {name!r}, expected one of '
      f'{", ".join(known)}'
    )
  return importlib.import_module(f'configs.{name}').get_config()
