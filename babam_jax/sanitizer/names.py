"""Names of files: as text for tables, and as other disks compare them."""

import itertools
import os
import pathlib
import re
import unicodedata

Path = pathlib.PurePath | str
_LONGEST = 255  # bytes, in common file systems
_ESCAPE = re.compile(rb'\\(\\|x[0-9a-f]{2})')


def printable(path: Path) -> str:
  """A path as text, whatever the encoding of the process is.

  Bytes that are no UTF-8 become escapes, and a backslash becomes two: no two
  paths have the same text.
  """
  doubled = os.fsencode(path).replace(b'\\', b'\\\\')
  return doubled.decode('utf-8', 'backslashreplace')


def path_of(text: str) -> pathlib.PurePath:
  """The path of which `printable` made a text."""

  def byte(found: re.Match[bytes]) -> bytes:
    escaped = found[1]
    return escaped if escaped == b'\\' else bytes.fromhex(escaped[1:].decode())

  return pathlib.PurePath(os.fsdecode(_ESCAPE.sub(byte, text.encode())))


def folded(path: Path) -> str:
  """What disks compare that tell no case, and no way to compose a letter."""
  text = unicodedata.normalize('NFC', printable(path))
  return unicodedata.normalize('NFC', text.casefold())


def png_name(
  path: pathlib.PurePosixPath, taken: set[str]
) -> pathlib.PurePosixPath:
  """The same stem with the ending .png, or another where that is taken.

  Args:
    path: of a picture that becomes a PNG.
    taken: the names of its class, `folded`; the new one is added.
  """
  if path.suffix.lower() == '.png':
    return path
  endings = (f'.{n}.png' for n in itertools.count(1))
  for ending in itertools.chain(['.png', f'{path.suffix}.png'], endings):
    room = _LONGEST - len(os.fsencode(ending))
    free = path.with_name(_shortened(path.stem, room) + ending)
    if folded(free) not in taken:
      taken.add(folded(free))
      return free
  raise AssertionError('there is always a next number')


def _shortened(name: str, length: int) -> str:
  """The start of a name, of at most `length` bytes, without half letters."""
  whole = os.fsencode(name)
  while len(whole) > length and whole[length] & 0xC0 == 0x80:  # mid-letter
    length -= 1
  return os.fsdecode(whole[:length])
