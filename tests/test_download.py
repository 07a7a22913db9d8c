import concurrent.futures
import hashlib
import io
import socket
import tarfile
import threading

import pytest
from conftest import CONTENT, SHA256

from babam_jax import errors
from babam_jax.data import datasets, download


def visible(folder):
  return [p.name for p in folder.iterdir() if not p.name.startswith('.')]


def fetch(server, path):
  return download.fetch(server.url, path, SHA256, 'put it there')


def test_fetch_once(server, tmp_path):
  path = tmp_path / 'cache' / 'file'
  assert fetch(server, path).read_bytes() == CONTENT
  fetch(server, path)
  assert len(server.starts) == 1
  assert visible(path.parent) == ['file']


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
  assert visible(tmp_path) == []


def test_no_connection(tmp_path):
  with pytest.raises(errors.UserError, match='download failed'):
    download.fetch('http://127.0.0.1:9/x', tmp_path / 'x', SHA256, 'put it')


@pytest.mark.parametrize(
  'url', ['foo', 'http://[', 'http://h:xx/', 'http://exa mple/', 'http://../']
)
def test_an_address_that_is_none(tmp_path, url):
  with pytest.raises(errors.UserError, match='download failed') as caught:
    download.fetch(url, tmp_path / 'x', SHA256, 'put it there')
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'answer',
  [
    b'hello\r\n\r\n',
    b'HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nx',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab',
    b'HTTP/1.1 302 F\r\nLocation: http://[::1\r\n\r\n',
  ],
)
def test_answers_that_are_not_http(tmp_path, answer):
  with socket.create_server(('127.0.0.1', 0)) as listening:

    def serve():
      connection, _ = listening.accept()
      with connection:
        connection.recv(65536)
        connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    url = f'http://127.0.0.1:{listening.getsockname()[1]}/x'
    with pytest.raises(errors.UserError, match='download failed'):
      download.fetch(url, tmp_path / 'x', SHA256, 'put it there')
    thread.join()


def test_two_at_once_download_once(server, tmp_path):
  with concurrent.futures.ThreadPoolExecutor() as pool:
    paths = list(pool.map(lambda _: fetch(server, tmp_path / 'x'), range(4)))
  assert paths[0].read_bytes() == CONTENT
  assert len(server.starts) == 1


def make_archive(name):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz') as tar:
    info = tarfile.TarInfo(name)
    info.size = 3
    tar.addfile(info, io.BytesIO(b'abc'))
  return buffer.getvalue()


def unpack(server, cache):
  sha256 = hashlib.sha256(server.content).hexdigest()
  return datasets.fetch_archive(cache, 'lfw', server.url, sha256)


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
