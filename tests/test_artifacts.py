import multiprocessing
import time

import numpy as np
import pytest
import starting

from babam_jax import files
from babam_jax.store.artifacts import Store


def write_value(value):
  def compute(output, scratch):
    files.write_arrays(output / 'value.npz', {'value': np.array(value)})

  return compute


def never(output, scratch):
  raise AssertionError('computed again')


def test_made_once_and_read_by_others(tmp_path):
  first = Store(tmp_path).stage('a', 1, {'x': 1}, [], write_value(7))
  again = Store(tmp_path).stage('a', 1, {'x': 1}, [], never)
  assert not first.reused and again.reused
  assert first.key == again.key and first.seconds == again.seconds
  assert again.arrays('value')['value'] == 7


def test_a_store_reports_what_its_own_run_made(tmp_path):
  store = Store(tmp_path)
  store.stage('a', 1, {}, [], write_value(1))
  store.stage('a', 1, {}, [], never)
  assert [stage['reused'] for stage in store.account().values()] == [False]


def test_the_key_is_all_that_the_result_depends_on(tmp_path):
  store = Store(tmp_path)
  one = store.stage('input', 1, {'v': 1}, [], write_value(1))
  two = store.stage('input', 1, {'v': 2}, [], write_value(2))
  keys = {
    store.stage(name, version, config, inputs, write_value(0)).key
    for name, version, config, inputs in (
      ('a', 1, {'x': 1, 'y': 2}, []),
      ('b', 1, {'x': 1, 'y': 2}, []),
      ('a', 2, {'x': 1, 'y': 2}, []),
      ('a', 1, {'x': 2, 'y': 2}, []),
      ('a', 1, {'x': 1, 'y': 2}, [one]),
      ('a', 1, {'x': 1, 'y': 2}, [two]),
      ('a', 1, {'y': 2, 'x': 1}, []),  # the same as the first
    )
  }
  assert len(keys) == 6


def test_a_stage_is_whole_or_absent(tmp_path):
  def dying(output, scratch):
    (output / 'half').write_text('half')
    (scratch / 'progress').write_text('kept')
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    Store(tmp_path).stage('a', 1, {}, [], dying)

  def finishing(output, scratch):
    assert not (output / 'half').exists()
    assert (scratch / 'progress').read_text() == 'kept'
    (output / 'whole').write_text('whole')

  artifact = Store(tmp_path).stage('a', 1, {}, [], finishing)
  assert {p.name for p in artifact.folder.iterdir()} == {'whole', 'stage.json'}
  assert not list(tmp_path.glob('*.scratch')) + list(tmp_path.glob('*.output'))


def slow_stage(root, log):
  def compute(output, scratch):
    time.sleep(1)
    with open(log, 'a') as file:
      file.write('made\n')

  Store(root).stage('a', 1, {}, [], compute)


def test_two_processes_do_the_work_once(tmp_path):
  context = multiprocessing.get_context('spawn')
  log = tmp_path / 'log'
  workers = [
    context.Process(target=slow_stage, args=(tmp_path / 'store', log))
    for _ in range(2)
  ]
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()
    assert worker.exitcode == 0
  assert log.read_text() == 'made\n'


def test_a_file_is_whole_or_absent(tmp_path):
  path = tmp_path / 'deep' / 'file'
  with pytest.raises(RuntimeError):
    with files.whole_file(path) as file:
      file.write(b'half')
      raise RuntimeError
  assert list(path.parent.iterdir()) == []
  files.write_text(path, 'old')
  with pytest.raises(RuntimeError):
    with files.whole_file(path) as file:
      file.write(b'new')
      raise RuntimeError
  assert path.read_text() == 'old'


def test_pickled_objects_are_not_read(tmp_path):
  np.savez(tmp_path / 'a.npz', value=np.array([{}], dtype=object))
  with pytest.raises(ValueError, match='pickled objects'):
    files.read_arrays(tmp_path / 'a.npz')


def _write_for_ever(path, letter):
  while True:
    files.write_text(path, letter * 100_000)


def test_two_writers_of_one_file(tmp_path):
  """What is read is whole, also after kills; nothing is left beside it."""
  path = tmp_path / 'file'
  files.write_text(path, 'a' * 100_000)
  for round_number in range(3):
    writers = [
      starting.CONTEXT.Process(target=_write_for_ever, args=(path, letter))
      for letter in 'ab'
    ]
    for writer in writers:
      writer.start()
    deadline = time.monotonic() + 0.5 + 0.1 * round_number
    while time.monotonic() < deadline:
      assert len(set(path.read_text())) == 1
      assert path.stat().st_size == 100_000
    for writer in writers:
      assert writer.is_alive()
      writer.kill()
      writer.join()
  files.write_text(path, 'end')
  assert [one.name for one in tmp_path.iterdir()] == ['file']


def test_memory_that_ends_is_no_damage(tmp_path, monkeypatch):
  files.write_arrays(tmp_path / 'a.npz', {'x': np.arange(3)})

  def no_memory(*args, **kwargs):
    raise MemoryError

  monkeypatch.setattr(np.lib.format, 'read_array', no_memory)
  with pytest.raises(MemoryError):
    files.read_arrays(tmp_path / 'a.npz')


def test_torn_lines_are_skipped(tmp_path):
  path = tmp_path / 'log.jsonl'
  assert files.read_lines(path) == []
  path.write_bytes(b'{"a": 1}\n{"b": \n3\n\xff\n{"c": 2}\n' + b'[' * 10**5)
  assert files.read_lines(path) == [{'a': 1}, {'c': 2}]
