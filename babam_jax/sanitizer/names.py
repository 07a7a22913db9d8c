"""Names of files: as text for tables, and as other disks compare them."""

import os
import pathlib
import unicodedata

Path = pathlib.PurePath | str


def printable(path: Path) -> str:
  """A path as text, whatever the encoding of the process is.

  Bytes that are no UTF-8 become escapes, and a backslash becomes two: no two
  paths have the same text.
  """
  doubled = os.fsencode(path).replace(b'\\', b'\\\\')
  return doubled.decode('utf-8', 'backslashreplace')


def folded(path: Path) -> str:
  """What disks compare that tell no case, and no way to compose a letter."""
  text = unicodedata.normalize('NFC', printable(path))
  return unicodedata.normalize('NFC', text.casefold())
