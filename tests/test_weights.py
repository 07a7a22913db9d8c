import os
import pickle

import numpy as np
import pytest

from babam_jax import errors
from babam_jax.models import weights


class Payload:
  def __init__(self, marker):
    self.marker = str(marker)

  def __reduce__(self):
    return os.mkdir, (self.marker,)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path, protocol):
  path, marker = tmp_path / 'weights.ckpt', tmp_path / 'it_ran'
  with open(path, 'wb') as file:
    pickle.dump({'AlexNet_0': Payload(marker)}, file, protocol)
  with pytest.raises(errors.UserError, match='refused') as caught:
    weights.read_array_pickle(path)
  assert str(path) in str(caught.value)
  assert not marker.exists()


def test_honest_arrays_are_read(tmp_path):
  path = tmp_path / 'weights.ckpt'
  array = np.arange(6, dtype=np.float32).reshape(2, 3)
  with open(path, 'wb') as file:
    pickle.dump({'a': {'kernel': array}}, file)
  found = weights.read_array_pickle(path)
  np.testing.assert_array_equal(found['a']['kernel'], array)


@pytest.mark.parametrize('content', [b'', b'junk', b'\x80\x04N.'])
def test_other_files_are_refused(tmp_path, content):
  path = tmp_path / 'weights.ckpt'
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match='weights file'):
    weights.read_array_pickle(path)


def test_truncated_files_are_refused(tmp_path):
  path = tmp_path / 'weights.ckpt'
  whole = pickle.dumps({'a': np.arange(100.0)})
  for length in range(0, len(whole), 7):
    path.write_bytes(whole[:length])
    with pytest.raises(errors.UserError):
      weights.read_array_pickle(path)
