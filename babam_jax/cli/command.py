"""What all commands share: flags, folders, and errors as one line."""

import datetime
import errno
import itertools
import os
import pathlib
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from babam_jax import errors
from babam_jax.data import download
from babam_jax.runs.alone import alone_in
from babam_jax.training import parallel

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The experiment: configs/X.py', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where results go; default: a dated folder below runs/.'
)
_ARTIFACTS = flags.DEFINE_string(
  'artifacts', 'runs/artifacts', 'Where stage results are kept and found.'
)

_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'One of several processes, as SLURM started them.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of the first of several processes.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'How many there are; with --coordinator.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Which of them this is, from 0; with --coordinator.'
)

Main = Callable[[ConfigDict, pathlib.Path, pathlib.Path], None]
_EXIT_FAULT = 1
_EXIT_USER_ERROR = 2
_CONFIG_REMEDY = (
  'expected a config file. Give one with --config=configs/orl_multiclass.py.'
)


def _stop(message: str) -> None:
  print(f'error: {message}', file=sys.stderr)
  sys.exit(_EXIT_USER_ERROR)


def _config_file(argv: Sequence[str]) -> pathlib.Path | None:
  """The file that `--config=FILE[:argument]` names."""
  for argument, following in itertools.pairwise([*argv, '']):
    name, _, value = argument.lstrip('-').partition('=')
    if name == 'config' and argument.startswith('-'):
      return pathlib.Path((value or following).partition(':')[0])
  return None


def _check_config_file(path: pathlib.Path | None) -> None:
  if path is None or not path.is_file():
    found = 'is missing' if path is None else f'no file {path}'
    _stop(f'--config: {found}; {_CONFIG_REMEDY}')


def define_options(
  name: str, options: ConfigDict, text: str
) -> flags.FlagHolder:
  """Flags `--name.field=value`, one for each field of `options`."""
  try:  # it looks at the command line at once
    return config_flags.DEFINE_config_dict(name, options, text)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as bad:
    known = ', '.join(sorted(options))
    _stop(f'--{name}: no such option, {_one_line(bad)}; expected {known}.')
  raise AssertionError  # _stop does not return


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """absl's parser, with every mistake as one line and exit status 2."""
  if '--help' in argv:
    return app.parse_flags_with_usage(argv)
  remedy = 'Fields and their types are in configs/common.py.'
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    _stop(f'command line: the config has no field {_one_line(error)}. {remedy}')
  except (flags.Error, TypeError, ValueError) as error:
    remedy = remedy if _config_file(argv) else 'See --help.'
    _stop(f'command line: {_one_line(error)}. {remedy}')
  raise AssertionError  # _stop does not return


def _one_line(error: BaseException) -> str:
  text: object = error
  while isinstance(text, BaseException) and text.args:  # one may hold another
    text = text.args[0]
  if 'Traceback (most recent call last)' in str(text):  # of a config file
    text = str(text).strip().splitlines()[-1]
  return ' '.join(str(text).split()).strip('"').rstrip('.')


def repeat_line(module: str = 'launch.main') -> str:
  """The command that was given, without where its results go."""
  return f'python -m {module} {shlex.join(config_arguments())}'


def config_arguments() -> list[str]:
  """What the command line says of the config."""
  kept = []
  for argument, following in itertools.pairwise([*sys.argv[1:], '']):
    if argument == '--config':
      kept.append(f'--config={following}')
    elif argument.startswith(('--config', '--noconfig')):
      kept.append(argument)
  return kept


def add_arguments(arguments: Sequence[str]) -> None:
  """Parses the command line as if these had come before the others."""
  sys.argv[1:1] = arguments
  _parse_flags(sys.argv)


def config_file() -> pathlib.Path:
  """The file that the command line names.

  Raises:
    UserError: it names none.
  """
  path = _config_file(sys.argv)
  if path is None:
    raise errors.UserError(f'--config: is missing; {_CONFIG_REMEDY}')
  return path


def config() -> ConfigDict:
  """What is in `config_file()`, and what the command line sets in it."""
  return _CONFIG.value


def artifacts_folder() -> pathlib.Path:
  """Where stage results are kept and found."""
  return pathlib.Path(_ARTIFACTS.value)


def workdir() -> pathlib.Path | None:
  """Where results go, if the command line says so."""
  return pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None


def _default_workdir() -> pathlib.Path:
  name = pathlib.Path(str(flags.FLAGS['config'].config_filename)).stem
  stamp = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
  return pathlib.Path('runs') / f'{name}-{stamp}'


def keep_compiled_code() -> None:
  """What XLA compiles is kept for later runs, unless the user said where."""
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    folder = str(download.cache_folder() / 'xla')
    jax.config.update('jax_compilation_cache_dir', folder)
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _guarded(main: Callable[[], None], where: object) -> None:
  """Tells the user's mistakes in one line."""
  logging.set_verbosity(logging.WARNING)  # Orbax tells a lot
  keep_compiled_code()
  try:
    main()
  except errors.UserError as error:
    _stop(str(error))
  except OSError as error:  # full, read-only, forbidden, vanished
    # Of a copy's two files it is the second that found no room.
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    name = (full and error.filename2) or error.filename or where
    _stop(f'{name}: {error.strerror or error}')


def _join() -> None:
  """Joins other processes, if the command line says so."""
  given = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  if any(value is not None for value in given):
    if None in given:
      raise errors.UserError(
        '--coordinator, --num_processes, --process_id: found some of them, '
        'expected all three, or --distributed. Give all.'
      )
    parallel.join_processes(*given)
  elif _DISTRIBUTED.value:
    parallel.join_processes()


def _run_together(main: Main, where: pathlib.Path) -> None:
  """Runs it in one process, or as one of several: the first writes results."""
  _join()
  if parallel.num_processes() == 1:
    with alone_in(where):
      main(_CONFIG.value, where, artifacts_folder())
    return
  try:
    with tempfile.TemporaryDirectory() as nobody_looks:
      here = pathlib.Path(nobody_looks) if parallel.process_id() else where
      with alone_in(here):
        main(_CONFIG.value, here, artifacts_folder())
  except BaseException as error:
    _leave(error)


def _leave(error: BaseException) -> None:
  """Ends one of several processes at once: JAX would wait for the others, and
  they for this one's part. They end when they notice."""
  status = _EXIT_FAULT
  if isinstance(error, errors.UserError):
    print(f'error: {error}', file=sys.stderr)
    status = _EXIT_USER_ERROR
  else:
    traceback.print_exception(error)
  sys.stderr.flush()
  os._exit(status)


def run(main: Main) -> None:
  """Parses the command line and calls `main(config, workdir, artifacts)`.

  Exit status: 0 done; 2 the user's mistake, told in one line; 1 our fault.
  """

  def start(argv: Sequence[str]) -> None:
    where = workdir() or _default_workdir()
    _guarded(lambda: _run_together(main, where), where)

  def parse(argv: Sequence[str]) -> list[str]:
    if '--help' not in argv:
      _check_config_file(_config_file(argv))
    rest = _parse_flags(argv)
    if len(rest) > 1:
      _stop(
        f'command line: unexpected {rest[1]!r}; expected --flag=value only.'
      )
    return rest

  app.run(start, flags_parser=parse)


def run_tool(main: Callable[[Sequence[str]], None]) -> None:
  """Like `run`, for commands that need no config: `main(arguments)`."""

  def parse(argv: Sequence[str]) -> list[str]:
    if _config_file(argv):
      _check_config_file(_config_file(argv))
    return _parse_flags(argv)

  app.run(
    lambda argv: _guarded(lambda: main(argv[1:]), argv[0]), flags_parser=parse
  )
