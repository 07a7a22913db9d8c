"""The reference of all fields, made from the settings of the parts.

python -m babam_jax.config.reference > docs/reference/config.md
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from babam_jax import settings
from babam_jax.attacks.catalog import ATTACKS
from babam_jax.config import schema
from babam_jax.config.study_settings import StudySettings
from babam_jax.settings import Setting

_HEADER = '| field | default | takes | meaning |\n|---|---|---|---|\n'
_INTRODUCTION = """# The fields of a config

Set them in a config file (`config.attack.eps = 8.0`) or on the command line
(`--config.attack.eps=8`). Made by `python -m babam_jax.config.reference` from
the settings beside the code that uses them.
"""


def page() -> str:
  """The reference, in Markdown."""
  parts = [_INTRODUCTION, _section('The experiment', _of(schema.Experiment()))]
  parts.append(_section('The attack', _attack()))
  parts.append(_section('The defense', _of(schema.DefenseChoice(), 'defense.')))
  for name, kind in schema.defense_nodes().items():
    lines = _of(kind(), f'defense.{name}.')
    parts.append(_section(f'`{name}`', lines, _first_sentence(kind)))
  parts.append(_section('A study', _of(StudySettings(), 'study.')))
  return '\n'.join(parts)


def _section(title: str, lines: Iterator[str], text: str = '') -> str:
  return f'## {title}\n\n{text}{_HEADER}{"".join(lines)}'


def _first_sentence(kind: type) -> str:
  sentence = (kind.__doc__ or '').split('.')[0]
  # Python 3.13 takes the indentation away.
  return f'{" ".join(sentence.split())}.\n\n'


def _of(node: Any, path: str = '') -> Iterator[str]:
  """The lines of a node's settings; nested settings come last."""
  nodes = []
  for field, known in settings.fields(node):
    default = getattr(node, field.name)
    if dataclasses.is_dataclass(default):
      nodes.append((field.name, default))
    else:
      yield _line(f'{path}{field.name}', default, known)
  for name, inside in nodes:
    yield from _of(inside, f'{path}{name}.')


def _attack() -> Iterator[str]:
  yield from _of(schema.AttackSettings(), 'attack.')
  users = schema.attack_fields()
  for name, kinds in users.items():
    whole = ATTACKS[kinds[0]]()
    known = next(k for field, k in settings.fields(whole) if field.name == name)
    default = getattr(whole, name)
    if dataclasses.is_dataclass(default):
      yield from _of(default, f'attack.{name}.')
    else:
      by = f' (*{", ".join(kinds)}*)'
      yield _line(f'attack.{name}', default, known, by)


def _line(path: str, default: Any, known: Setting, by: str = '') -> str:
  takes = known.expected() if known.choices or _is_number(default) else ''
  text = f'{known.text}{by}'.replace('|', '\\|')
  return f'| `{path}` | `{default!r}` | {takes} | {text} |\n'


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


if __name__ == '__main__':
  print(page(), end='')
