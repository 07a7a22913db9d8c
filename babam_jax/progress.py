"""Progress bars with the time left; in a log file they write rarely."""

import sys
from collections.abc import Iterable
from typing import TypeVar

import tqdm

T = TypeVar('T')


def progress_bar(total: int, title: str, unit: str) -> tqdm.tqdm:
  """A bar that the caller advances; in a log file it writes a line a minute."""
  return tqdm.tqdm(
    total=total,
    desc=title,
    unit=unit,
    mininterval=0.5 if sys.stderr.isatty() else 60,
    dynamic_ncols=True,
  )


def progress(items: Iterable[T], title: str) -> Iterable[T]:
  """Walks over `items` with a bar."""
  items = list(items)
  with progress_bar(len(items), title, 'img') as bar:
    for item in items:
      yield item
      bar.update()


def harmless(text: str) -> str:
  """A text without what a terminal obeys: what names and files hold may be
  hostile."""
  return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
  """Prints a line to standard error without disturbing a bar."""
  tqdm.tqdm.write(harmless(text), file=sys.stderr)
