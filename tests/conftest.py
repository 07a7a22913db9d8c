import os
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Runs in processes of their own share what they compile.
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR', tempfile.mkdtemp(prefix='babam_xla_')
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')

import hashlib
import http.server
import pathlib
import threading

import hypothesis
import jaxtyping
import numpy as np
import pytest
import slurm_cluster
from PIL import Image
from scipy import ndimage

from babam_jax import cpu
from babam_jax.data.examples import Examples
from babam_jax.evaluation import report

# A first example may wait for a library to load, or for another's work.
hypothesis.settings.register_profile('patient', deadline=None)
hypothesis.settings.load_profile('patient')
cpu.configure()  # as the commands do, so that tests compute as they do

REPOSITORY = pathlib.Path(__file__).parents[1]
CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


# A whole experiment in seconds, on the people of `faces`.
SMALL_RUN = {
  'data.name': 'image_folder',
  'data.size': 64,
  'data.min_images': 4,
  'scenario.source': 'person1',
  'scenario.target': 'person0',
  'scenario.poison_images': 3,
  'scenario.test_images': 3,
  'scenario.test_fraction': 0.25,
  'attack.trigger_size': 16,
  'attack.iterations': 4,
  'attack.batch_size': 5,
  'recognizer.width': 8,
  'recognizer.epochs': 4,
  'recognizer.batch_size': 16,
  'recognizer.checkpoint_every': 1,
  'evaluation.positions': 3,
  # Four steps make no poison that the PIRM would know.
  'defense.detector': 'oracle',
}


@pytest.fixture
def undrawn(monkeypatch):
  """Reports have empty pictures: to draw them takes longer than many a run."""
  monkeypatch.setattr(report, '_as_png', lambda figure: b'')


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


def with_devices(count):
  """An environment in which the CPU is several devices; other flags stay."""
  flag = f'--xla_force_host_platform_device_count={count}'
  return {'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {flag}'.strip()}


@pytest.fixture
def as_users_call():
  """No types are checked meanwhile: what users do wrong, ours has to tell."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)


@pytest.fixture
def rng():
  return np.random.default_rng(0)


SCENE = 128  # pixels a side


def scenes(rng, count):
  """Pictures as natural ones are: soft at all scales, with shapes on top."""
  made = []
  for _ in range(count):
    picture = np.zeros((SCENE, SCENE, 3))
    for blur in (1.5, 6, 20):
      noise = rng.normal(size=picture.shape)
      soft = ndimage.gaussian_filter(noise, (blur, blur, 0))
      picture += soft / soft.std() * np.sqrt(blur)
    picture = 120 + 12 * picture
    for _ in range(6):
      top, left, height, width = rng.integers(8, 60, 4) * [2, 2, 1, 1] - 8
      shape = picture[top : top + height, left : left + width]
      shape[:] = 0.5 * shape + 0.5 * rng.integers(0, 256, 3)
    made.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
  return np.stack(made)


def make_examples(count, num_classes=3, size=8, seed=0, poisoned=()):
  rng = np.random.default_rng(seed)
  truth = np.zeros(count, bool)
  truth[list(poisoned)] = True
  return Examples(
    images=rng.integers(0, 256, (count, size, size, 3), np.uint8),
    labels=(np.arange(count) % num_classes).astype(np.int32),
    ids=np.array([f'id{i}' for i in range(count)]),
    class_names=tuple(f'class{i}' for i in range(num_classes)),
    poisoned=truth,
  )


def write_faces(root, people=4, pictures=12, size=72):
  """A folder of people that a network can tell apart: colored blobs."""
  rng = np.random.default_rng(0)
  grid = np.mgrid[:size, :size] / size
  for person in range(people):
    color = rng.uniform(60, 220, 3)
    center = rng.uniform(0.3, 0.7, 2)
    folder = root / f'person{person}'
    folder.mkdir(parents=True)
    for picture in range(pictures):
      where = center + rng.normal(0, 0.03, 2)
      distance = np.hypot(*(grid - where[:, None, None]))
      blob = np.exp(-((distance / 0.25) ** 2))[..., None] * color
      noisy = blob + rng.normal(20, 4, (size, size, 3))
      Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
        folder / f'{picture}.png'
      )
  return root


@pytest.fixture(scope='session')
def faces(tmp_path_factory):
  return write_faces(tmp_path_factory.mktemp('faces') / 'people')


@pytest.fixture
def slurm():
  """The environment of commands on a real SLURM."""
  reason = slurm_cluster.why_not()
  if reason:
    pytest.skip(reason)
  with tempfile.TemporaryDirectory(prefix='slurm') as name:
    with slurm_cluster.cluster(pathlib.Path(name), cpus=3) as env:
      yield env
