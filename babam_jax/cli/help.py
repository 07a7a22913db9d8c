"""The text of `--help` for one command."""

import sys
import textwrap
from collections.abc import Callable, Sequence

from absl import flags

from babam_jax import invocation

_WIDTH = 80


def text(main: Callable[..., None], shared: Sequence[str]) -> str:
  """The docstring of a command's module, and its options.

  Args:
    main: the command.
    shared: the options that it shares with other commands.
  """
  about = sys.modules[main.__module__].__doc__ or ''
  own = flags.FLAGS.get_key_flags_for_module(main.__module__)
  known = [flags.FLAGS[name] for name in shared]
  options = [_option(flag) for flag in (*known, *own)]
  return '\n'.join([invocation.adapted(about.strip()), '', *options])


def _option(flag: flags.Flag) -> str:
  name, about = f'{flag.name}=...', flag.help or ''
  if flag.boolean:
    name = f'[no]{flag.name}'
  elif isinstance(flag, flags.EnumFlag):
    choices = '|'.join(flag.parser.enum_values)
    name = f'{flag.name}={choices}'
    about = about.removeprefix(f'<{choices}>: ')  # absl adds them
  if isinstance(flag.default, str | int | float) and flag.default is not False:
    about += f' Default: {flag.default}.'
  indent = ' ' * 6
  return f'  --{name}\n' + textwrap.fill(
    about, _WIDTH, initial_indent=indent, subsequent_indent=indent
  )
