"""Downloads with checksum, progress and resume, into a cache."""

import hashlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request

from babam_jax import errors, locks
from babam_jax.progress import progress_bar

_CHUNK = 1 << 20
_LARGEST = 1 << 33  # bytes; a server may send without end
_NOTHING_LEFT = 416  # HTTP status: the range starts after the file's end


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


def fetch(
  url: str, path: pathlib.Path, sha256: str, by_hand: str
) -> pathlib.Path:
  """Downloads `url` to `path`, unless that exists.

  An interrupted download stays as `<path>.part` and is continued by the next
  call. `path` itself appears only once size and checksum are right. If two
  processes want the same file, one downloads it and the other waits.

  Args:
    url: the address of the file.
    path: where to store it.
    sha256: its SHA-256 in hexadecimal, or the beginning of it.
    by_hand: for the error message: what to do with a file from elsewhere.

  Raises:
    UserError: no connection, the download ended early, or the checksum is
      wrong (what was downloaded is then deleted).
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with locks.held(path.with_name(f'.{path.name}.lock')):
    if not path.exists():
      part = path.with_name(path.name + '.part')
      _download(url, part, by_hand)
      _check(url, part, sha256)
      os.replace(part, path)
  return path


def _download(url: str, part: pathlib.Path, by_hand: str) -> None:
  try:
    expected = _continue_download(url, part)
  except (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ValueError,  # an invalid address, or a header that is no number
  ) as error:
    reason = ' '.join((str(error) or repr(error)).split())
    raise errors.UserError(
      f'{url}: download failed ({reason}). Run the command again to continue, '
      f'or download the file by hand and {by_hand}.'
    ) from None
  found = part.stat().st_size
  if found < expected:
    raise errors.UserError(
      f'{url}: the download ended after {found:,} of {expected:,} bytes. Run '
      'the command again to continue it.'
    )


def _check(url: str, part: pathlib.Path, sha256: str) -> None:
  checksum = sha256_of(part)
  if not checksum.startswith(sha256):
    part.unlink()
    raise errors.UserError(
      f'{url}: wrong checksum {checksum}, expected {sha256}; the download was '
      'deleted. Run the command again; if it stays wrong, do not trust the '
      'source.'
    )


def _continue_download(url: str, part: pathlib.Path) -> int:
  """Downloads the missing end of `part`; returns the size of the whole file."""
  start = part.stat().st_size if part.exists() else 0
  request = urllib.request.Request(url, headers={'Range': f'bytes={start}-'})
  try:
    answer = urllib.request.urlopen(request, timeout=60)
  except urllib.error.HTTPError as error:
    if error.code == _NOTHING_LEFT and start:
      return start
    raise
  with answer:
    if answer.status != 206:  # the server sends the whole file
      start = 0
    size = start + int(answer.headers.get('Content-Length', 0))
    with (
      open(part, 'ab' if start else 'wb') as file,
      progress_bar(size, f'downloading {part.stem}', 'B') as bar,
    ):
      bar.update(start)
      while chunk := answer.read(_CHUNK):
        file.write(chunk)
        bar.update(len(chunk))
        if file.tell() > _LARGEST:
          raise ValueError(f'more than {_LARGEST:,} bytes')
      os.fsync(file.fileno())
  return size
