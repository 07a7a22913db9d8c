"""The command `babam`: its verbs, each a module of this folder."""

import ast
import importlib
import logging
import pathlib
import sys
from collections.abc import Sequence

import babam_jax
from babam_jax import cpu, gpu, invocation

VERBS = ('run', 'sanitize', 'pirm', 'weights', 'sweep', 'report', 'artifacts')
_PERSONALIZE = 'personalize'  # after 'pirm'
_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130  # as shells have it for SIGINT


def main() -> None:
  """Hands the command line, without the verb, to the verb's module."""
  match sys.argv[1:]:
    case [verb, *rest] if verb in VERBS:
      start(verb, [f'{_program()} {verb}', *rest])
    case ['--help' | '-h' | 'help']:
      print(_usage())
    case ['--version']:
      print(f'{invocation.PROGRAM} {babam_jax.__version__}')
    case []:
      sys.exit(_mistake('a verb is missing'))
    case [other, *_]:
      sys.exit(_mistake(f'found {other!r}'))


def start(verb: str, argv: Sequence[str]) -> None:
  """Runs one command; does not return.

  Args:
    verb: one of `VERBS`.
    argv: the command as it was called, then its options.
  """
  try:
    _start(verb, argv)
  except KeyboardInterrupt:
    print('interrupted; the same command continues', file=sys.stderr)
    sys.exit(_EXIT_INTERRUPTED)


def _start(verb: str, argv: Sequence[str]) -> None:
  cpu.configure()  # before JAX is loaded
  gpu.configure()
  # That a home cannot be written to slows matplotlib down, and no more.
  logging.getLogger('matplotlib').setLevel(logging.ERROR)
  called, *options = argv
  if verb == 'pirm' and options[:1] == [_PERSONALIZE]:
    verb, called, options = options[0], f'{called} {options[0]}', options[1:]
  # Some flags look there as soon as they are defined.
  sys.argv[:] = [called, *options]
  # Only this verb's module: each module defines its own flags.
  importlib.import_module(f'babam_jax.cli.{verb}').start()


def _program() -> str:
  """What this process was started as."""
  if pathlib.Path(sys.argv[0]).name == '__main__.py':
    return 'python -m babam_jax.cli'
  return invocation.PROGRAM


def _mistake(found: str) -> int:
  print(_usage(), file=sys.stderr)
  expected = f'expected one of {", ".join(VERBS)}'
  print(f'error: command line: {found}; {expected}.', file=sys.stderr)
  return _EXIT_USER_ERROR


def _usage() -> str:
  width = max(map(len, VERBS))
  return '\n'.join(
    [
      f'usage: {invocation.PROGRAM} VERB [--flag=value ...]',
      '',
      *(f'  {verb:{width}}  {_about(verb)}' for verb in VERBS),
      '',
      f'{invocation.PROGRAM} VERB --help tells more.',
    ]
  )


def _about(verb: str) -> str:
  """The first line of the module's docstring, without importing it."""
  source = pathlib.Path(__file__).with_name(f'{verb}.py').read_text('utf-8')
  return (ast.get_docstring(ast.parse(source)) or '').partition('\n')[0]
