"""Names of files: as text for tables, and as other disks compare them."""

import os
import pathlib
import re
import unicodedata

Path = pathlib.PurePath | str
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
