"""Downloads with checksum, progress and resume, into a cache."""

import hashlib
import os
import pathlib
import urllib.error
import urllib.request

from babam_jax import errors
from babam_jax.progress import progress_bar

_CHUNK = 1 << 20


def cache_folder() -> pathlib.Path:
  """`$BABAM_CACHE`, else `babam_jax` in the user's cache folder."""
  if 'BABAM_CACHE' in os.environ:
    return pathlib.Path(os.environ['BABAM_CACHE'])
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'babam_jax'


def sha256_of(path: pathlib.Path) -> str:
  """The SHA-256 of a file's contents, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def fetch(url: str, path: pathlib.Path, size: int, sha256: str) -> pathlib.Path:
  """Downloads `url` to `path`, unless it is there.

  An interrupted download stays as `<path>.part` and is continued by the next
  call. `path` itself appears only once size and checksum are right.

  Raises:
    UserError: no connection, the download ended early, or the checksum is
      wrong (what was downloaded is then deleted).
  """
  if path.exists():
    return path
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(path.name + '.part')
  try:
    _continue_download(url, part, size)
  except OSError as error:  # URLError and timeouts are OSErrors
    if not isinstance(error, urllib.error.URLError | TimeoutError):
      if not isinstance(error, ConnectionError):
        raise
    raise errors.UserError(
      f'{url}: download failed ({error}); expected {size:,} bytes. Run the '
      'command again to continue, or download the file by hand and give its '
      'folder with --config.data.root=DIR.'
    ) from None
  found = part.stat().st_size
  if found < size:
    raise errors.UserError(
      f'{url}: the download ended after {found:,} of {size:,} bytes. Run the '
      'command again to continue it.'
    )
  checksum = sha256_of(part)
  if checksum != sha256:
    part.unlink()
    raise errors.UserError(
      f'{url}: wrong checksum {checksum}, expected {sha256}; the download was '
      'deleted. Run the command again; if it stays wrong, do not trust the '
      'source.'
    )
  os.replace(part, path)
  return path


def _continue_download(url: str, part: pathlib.Path, size: int) -> None:
  start = part.stat().st_size if part.exists() else 0
  if start >= size:
    return
  request = urllib.request.Request(url, headers={'Range': f'bytes={start}-'})
  with urllib.request.urlopen(request, timeout=60) as answer:
    if answer.status != 206:  # the server sends the whole file
      start = 0
    with (
      open(part, 'ab' if start else 'wb') as file,
      progress_bar(size, f'downloading {part.stem}', 'B') as bar,
    ):
      bar.update(start)
      while chunk := answer.read(_CHUNK):
        file.write(chunk)
        bar.update(len(chunk))
      os.fsync(file.fileno())
