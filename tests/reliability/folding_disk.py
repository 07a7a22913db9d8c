"""A disk like those of macOS: it tells no case, nor how a letter is composed,
and has no hard links. A folder shown through FUSE.

  python folding_disk.py FOLDER MOUNTED
"""

import errno
import os
import sys
import unicodedata

import mfusepy

_STAT = ('st_mode', 'st_nlink', 'st_size', 'st_uid', 'st_gid')
_TIMES = ('st_atime', 'st_mtime', 'st_ctime')
_SPACE = (
  'f_bavail',
  'f_bfree',
  'f_blocks',
  'f_bsize',
  'f_favail',
  'f_ffree',
  'f_files',
  'f_frsize',
  'f_namemax',
)


def _folded(name):
  composed = unicodedata.normalize('NFC', name)
  return unicodedata.normalize('NFC', composed.casefold())


class FoldingDisk(mfusepy.Operations):
  """Shows a folder in which names differ in more than case."""

  use_ns = True

  def __init__(self, root):
    self._root = root

  def _at(self, path):
    here = self._root
    for part in path.strip('/').split('/'):
      try:
        names = os.listdir(here)
      except OSError:
        names = []
      wanted = _folded(part)
      same = (name for name in names if _folded(name) == wanted)
      here = os.path.join(here, next(same, part))
    return here

  def getattr(self, path, fh=None):
    found = os.lstat(self._at(path))
    times = {name: getattr(found, f'{name}_ns') for name in _TIMES}
    return {name: getattr(found, name) for name in _STAT} | times

  def readdir(self, path, fh):
    return ['.', '..', *os.listdir(self._at(path))]

  def mkdir(self, path, mode):
    os.mkdir(self._at(path), mode)

  def rmdir(self, path):
    os.rmdir(self._at(path))

  def unlink(self, path):
    os.unlink(self._at(path))

  def rename(self, old, new, *flags):
    os.rename(self._at(old), self._at(new))

  def link(self, target, source):
    raise mfusepy.FuseOSError(errno.EPERM)

  def create(self, path, mode, fi=None):
    return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

  def open(self, path, flags):
    return os.open(self._at(path), flags)

  def read(self, path, size, offset, fh):
    return os.pread(fh, size, offset)

  def write(self, path, data, offset, fh):
    return os.pwrite(fh, data, offset)

  def truncate(self, path, length, fh=None):
    os.truncate(self._at(path), length)

  def fsync(self, path, datasync, fh):
    os.fsync(fh)

  def fsyncdir(self, path, datasync, fh):
    return 0

  def release(self, path, fh):
    os.close(fh)

  def utimens(self, path, times=None):
    os.utime(self._at(path), ns=times)

  def chmod(self, path, mode):
    os.chmod(self._at(path), mode)

  def statfs(self, path):
    found = os.statvfs(self._root)
    return {name: getattr(found, name) for name in _SPACE}


if __name__ == '__main__':
  disk = FoldingDisk(sys.argv[1])
  mfusepy.FUSE(disk, sys.argv[2], foreground=True, nothreads=True)
