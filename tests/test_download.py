import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from babam_jax import errors
from babam_jax.data import datasets, download

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
  content = CONTENT
  send_at_most = None  # bytes, then the connection breaks
  knows_ranges = True
  starts = []

  def do_GET(self):
    start = 0
    if self.knows_ranges and 'Range' in self.headers:
      start = int(self.headers['Range'].removeprefix('bytes=').rstrip('-'))
    type(self).starts.append(start)
    self.send_response(206 if start else 200)
    self.send_header('Content-Length', str(len(self.content) - start))
    self.end_headers()
    self.wfile.write(self.content[start:][: self.send_at_most])

  def log_message(self, *args):
    pass


@pytest.fixture
def server():
  handler = type('FreshHandler', (Handler,), {'starts': []})
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
    threading.Thread(target=running.serve_forever, daemon=True).start()
    handler.url = f'http://127.0.0.1:{running.server_port}/file'
    yield handler
    running.shutdown()


def fetch(server, path):
  return download.fetch(server.url, path, len(CONTENT), SHA256)


def test_fetch_once(server, tmp_path):
  path = tmp_path / 'cache' / 'file'
  assert fetch(server, path).read_bytes() == CONTENT
  fetch(server, path)
  assert len(server.starts) == 1
  assert [p.name for p in path.parent.iterdir()] == ['file']


@pytest.mark.parametrize('knows_ranges', [True, False])
def test_a_truncated_download_is_told_and_continued(
  server, tmp_path, knows_ranges
):
  server.knows_ranges = knows_ranges
  server.send_at_most = 400_000
  path = tmp_path / 'file'
  with pytest.raises(errors.UserError, match='after 400,000 of 1,280,000'):
    fetch(server, path)
  assert not path.exists()
  server.send_at_most = None
  assert fetch(server, path).read_bytes() == CONTENT
  assert server.starts == [0, 400_000 if knows_ranges else 0]


def test_a_wrong_checksum_is_refused_and_deleted(server, tmp_path):
  server.content = CONTENT[:-1] + b'!'
  path = tmp_path / 'file'
  with pytest.raises(errors.UserError, match='wrong checksum'):
    fetch(server, path)
  assert list(tmp_path.iterdir()) == []


def test_no_connection(tmp_path):
  with pytest.raises(errors.UserError, match='download failed'):
    download.fetch('http://127.0.0.1:9/x', tmp_path / 'x', 1, SHA256)


def make_archive(name):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz') as tar:
    info = tarfile.TarInfo(name)
    info.size = 3
    tar.addfile(info, io.BytesIO(b'abc'))
  return buffer.getvalue()


def unpack(server, cache):
  sha256 = hashlib.sha256(server.content).hexdigest()
  size = len(server.content)
  return datasets.fetch_archive(cache, 'lfw', server.url, size, sha256)


def test_an_archive_is_unpacked_once(server, tmp_path):
  server.content = make_archive('lfw/Somebody/Somebody_0001.jpg')
  folder = unpack(server, tmp_path)
  assert (folder / 'Somebody' / 'Somebody_0001.jpg').read_bytes() == b'abc'
  assert unpack(server, tmp_path) == folder
  assert len(server.starts) == 1


def test_an_archive_cannot_write_elsewhere(server, tmp_path):
  server.content = make_archive('../escaped')
  with pytest.raises(errors.UserError, match='archive'):
    unpack(server, tmp_path / 'cache')
  assert not (tmp_path / 'escaped').exists()
