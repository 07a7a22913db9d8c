"""What all commands share: flags, folders, and errors as one line."""

import contextlib
import datetime
import errno
import io
import os
import pathlib
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from babam_jax import errors, files
from babam_jax.cli import help
from babam_jax.config import renamed, schema
from babam_jax.data import download
from babam_jax.progress import harmless
from babam_jax.runs.alone import alone_in
from babam_jax.training import parallel

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The experiment: a file with get_config().', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where results go; default: a dated folder below runs/.'
)
_ARTIFACTS = flags.DEFINE_string(
  'artifacts', 'runs/artifacts', 'Where stage results are kept and found.'
)

_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Be one of several processes that SLURM has started.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of the first of several processes.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'The number of processes; with --coordinator.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'The number of this one, from 0; with --coordinator.'
)

Main = Callable[[ConfigDict, pathlib.Path, pathlib.Path], None]
_EXIT_FAULT = 1
_EXIT_USER_ERROR = 2
_CONFIG_REMEDY = (
  'expected a config file. Give one with --config=FILE, one of your own or of '
  "the repository's: configs/orl_multiclass.py."
)
_GET_CONFIG = (
  'expected a function get_config() that returns a ConfigDict. Begin with '
  'babam_jax.default_config().'
)
# In what XLA, C++, threads and the loader of libraries say.
_NO_MEMORY = re.compile(
  "RESOURCE_EXHAUSTED|bad_alloc|can't start new thread|"
  'failed to map segment from shared object$|Cannot allocate memory'
)
_MEMORY_TOLD = (
  'out of memory; what is done is kept. Free some, or lower a batch size, and '
  'give the same command again.'
)
_SHARED = (
  'config',
  'workdir',
  'artifacts',
  'distributed',
  'coordinator',
  'num_processes',
  'process_id',
)


def _stop(message: str) -> None:
  _print_error(message)
  sys.exit(_EXIT_USER_ERROR)


def _print_error(message: str) -> None:
  print(f'error: {harmless(message)}', file=sys.stderr)


def define_options(
  name: str, options: ConfigDict, text: str
) -> flags.FlagHolder:
  """Flags `--name.field=value`, one for each field of `options`."""
  try:  # this reads the command line at once
    return config_flags.DEFINE_config_dict(name, options, text)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as bad:
    known = ', '.join(sorted(options))
    _stop(f'--{name}: no such option, {_one_line(bad)}; expected {known}.')
  raise AssertionError  # _stop does not return


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """absl's parser, with every mistake as one line and exit status 2."""
  remedy = 'Fields and their types: babam_jax.default_config().'
  try:
    rest = flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    if getattr(error, 'name', '') == 'get_config':
      _stop(f'--config: {_one_line(error)}; {_GET_CONFIG}')
    _stop_unknown(argv)
    _stop(f'command line: the config has no field {_one_line(error)}. {remedy}')
  except (flags.Error, TypeError, ValueError) as error:
    if getattr(error, 'flagname', '').startswith(f'{_CONFIG.name}.'):
      _stop(f'--config: is missing; {_CONFIG_REMEDY}')
    remedy = remedy if _CONFIG.present else 'See --help.'
    _stop(f'command line: {_one_line(error)}. {remedy}')
  except OSError as error:  # a field of a config that could not be loaded
    _stop_unloaded(error)
  else:
    _check_config()
    return rest
  raise AssertionError  # _stop does not return


def _stop_unknown(argv: Sequence[str]) -> None:
  """Tells which field of the command line there is not, and its new name."""
  for argument in argv:
    name = argument.lstrip('-').partition('=')[0]
    path = name.removeprefix('no').removeprefix(f'{_CONFIG.name}.')
    new = renamed.new_name(path)
    if new and path != name:
      _stop(
        f'command line: config.{path} has another name now; expected '
        f'config.{new}.'
      )
    if path != name and not schema.has_field(path):
      _stop(f'command line: {renamed.unknown(path, schema.field_paths())}')


def _check_config() -> None:
  if not _CONFIG.present or isinstance(_CONFIG.value, ConfigDict):
    return
  try:  # raises the error of a file that could not be loaded
    hasattr(_CONFIG.value, 'lock')
  except OSError as error:
    _stop_unloaded(error)
  found = type(_CONFIG.value).__name__
  _stop(f'--config: get_config() has returned {found}; {_GET_CONFIG}')


def _stop_unloaded(error: OSError) -> None:
  # The last line says where ml_collections has looked.
  reason = str(error.__cause__ or error).strip().splitlines()[-1]
  _stop(f'--config: {reason.strip()}; {_CONFIG_REMEDY}')


def _one_line(error: BaseException) -> str:
  text: object = error
  while isinstance(text, BaseException) and text.args:  # they may be nested
    text = text.args[0]
  if 'Traceback (most recent call last)' in str(text):  # a config file's
    text = str(text).strip().splitlines()[-1]
  return ' '.join(str(text).split()).strip('"').rstrip('.')


def repeat_line(called: str) -> str:
  """The command that was given, without its output folders.

  Args:
    called: the command without options.
  """
  return f'{called} {shlex.join(config_arguments())}'


def config_arguments() -> list[str]:
  """The command line's options for the config; none without a config."""
  flag = flags.FLAGS[_CONFIG.name]
  if not flag.present:
    return []
  fields = config_flags.get_override_values(flag)
  return [
    f'--config={config_flags.get_config_filename(flag)}',
    *(f'--config.{path}={value}' for path, value in fields.items()),
  ]


def add_arguments(arguments: Sequence[str]) -> None:
  """Parses the command line as if these had come before the others."""
  sys.argv[1:1] = arguments
  _parse_flags(sys.argv)


def config_file() -> pathlib.Path:
  """The file that the command line names.

  Raises:
    UserError: it names none.
  """
  flag = flags.FLAGS[_CONFIG.name]
  if not flag.present:
    raise errors.UserError(f'--config: is missing; {_CONFIG_REMEDY}')
  # After a colon comes the argument of the file's get_config.
  return pathlib.Path(config_flags.get_config_filename(flag).partition(':')[0])


def config() -> ConfigDict:
  """The config of `config_file()`, with what the command line sets in it."""
  return _CONFIG.value


def experiment_config() -> ConfigDict:
  """Like `config`, for a single experiment: the file's options for an attack or
  a defense that the command line replaces have their defaults.

  Raises:
    UserError: the command line sets such an option.
  """
  if given_fields() & schema.choices():
    return schema.without_unused(config(), given_fields())
  return config()


def given_fields() -> set[str]:
  """The fields of the config that the command line sets, by path."""
  return set(config_flags.get_override_values(flags.FLAGS[_CONFIG.name]))


def artifacts_folder() -> pathlib.Path:
  """Where stage results are kept and found."""
  return _folder(_ARTIFACTS)


def workdir() -> pathlib.Path | None:
  """Where results go, if the command line says so."""
  return _folder(_WORKDIR) if _WORKDIR.value else None


def _folder(flag: flags.FlagHolder) -> pathlib.Path:
  path = files.named(flag.value)
  files.check_folder(path, f'--{flag.name}')
  return path


def _default_workdir() -> pathlib.Path:
  stamp = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
  return pathlib.Path('runs') / f'{config_file().stem}-{stamp}'


def keep_compiled_code() -> None:
  """Keeps what XLA compiles for later runs, unless the user chose where."""
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    folder = download.cache_folder() / 'xla'
    with contextlib.suppress(OSError):  # a home that cannot be written to
      folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      return
    jax.config.update('jax_compilation_cache_dir', str(folder))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _guarded(main: Callable[[], None], where: object) -> None:
  """Calls `main`; prints the user's mistakes in one line."""
  for stream in (sys.stdout, sys.stderr):
    # A name that the terminal's encoding lacks is no reason to stop.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')
  logging.set_verbosity(logging.WARNING)  # Orbax logs a lot
  keep_compiled_code()
  try:
    main()
  except Exception as error:
    known = _told(error, where)
    if known is None:
      raise
    message, status = known
    if status == _EXIT_FAULT:
      # Libraries would wait for threads that could not be started.
      _print_error(message)
      sys.stderr.flush()
      os._exit(status)
    _stop(message)


def _told(error: BaseException, where: object) -> tuple[str, int] | None:
  """What to say of an error in one line, and the exit status; None for a fault
  of ours, which needs a traceback.

  Args:
    error: what was raised.
    where: what the command works on, where the error does not say.
  """
  if isinstance(error, errors.UserError):
    return str(error), _EXIT_USER_ERROR
  if isinstance(error, OSError):  # full, read-only, forbidden, vanished
    # When a copy fails, the second file is the one that found no room.
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    name = (full and error.filename2) or error.filename or where
    return f'{name}: {error.strerror or error}', _EXIT_USER_ERROR
  raised_for_memory = isinstance(error, RuntimeError | ImportError)
  if isinstance(error, MemoryError) or (
    raised_for_memory and _NO_MEMORY.search(str(error))
  ):
    return _MEMORY_TOLD, _EXIT_FAULT
  return None


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
  """Calls `main` in one process or in several, of which the first writes."""
  _join()
  parallel.check_platform()
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
    _leave(error, where)


def _leave(error: BaseException, where: pathlib.Path) -> None:
  """Ends one of several processes at once: JAX would wait for the others, and
  they for this one's part. They end when they notice."""
  known, status = _told(error, where), _EXIT_FAULT
  if known is not None:
    message, status = known
    _print_error(message)
  else:
    traceback.print_exception(error)
  sys.stderr.flush()
  os._exit(status)


def run(main: Main) -> None:
  """Parses the command line and calls `main(config, workdir, artifacts)`.

  Exit status: 0 done; 2 the user's mistake, printed in one line; 1 a bug.
  """

  def start(argv: Sequence[str]) -> None:
    where = workdir() or _default_workdir()
    _guarded(lambda: _run_together(main, where), where)

  def parse(argv: Sequence[str]) -> list[str]:
    _tell_help(argv, main, _SHARED)
    rest = _parse_flags(argv)
    if not _CONFIG.present:
      _stop(f'--config: is missing; {_CONFIG_REMEDY}')
    if len(rest) > 1:
      _stop(
        f'command line: unexpected {rest[1]!r}; expected --flag=value only.'
      )
    return rest

  app.run(start, flags_parser=parse)


def run_tool(
  main: Callable[[Sequence[str]], None], shared: Sequence[str] = ()
) -> None:
  """Like `run`, for commands that need no config: `main(arguments)`.

  Args:
    main: the command.
    shared: the shared options that it uses, for its help.
  """

  def parse(argv: Sequence[str]) -> list[str]:
    _tell_help(argv, main, shared)
    return _parse_flags(argv)

  app.run(
    lambda argv: _guarded(lambda: main(argv[1:]), argv[0]), flags_parser=parse
  )


def _tell_help(
  argv: Sequence[str], main: Callable[..., None], shared: Sequence[str]
) -> None:
  if '--help' in argv or '-h' in argv:
    print(help.text(main, shared))
    sys.exit()
