import jax
import jax.numpy as jnp
import numpy as np
import pytest

from babam_jax import errors
from babam_jax.models import initial, networks
from babam_jax.training import (
  augment,
  batches,
  optimizer,
  parallel,
  recognition,
  recognizer,
  train,
)


def linear_network(width=5, classes=3):
  def apply(params, stats, frozen, inputs, keys, weights):
    noise = jax.vmap(lambda key: jax.random.normal(key, (width,)))(keys)
    logits = (inputs + 0.1 * noise) @ params['w'] * frozen['scale']
    return (logits,), stats

  params = {'w': jnp.zeros((width, classes))}
  return train.Network(apply, params, {}, {'scale': jnp.ones(())})


def separable(count=50, width=5, classes=3):
  rng = np.random.default_rng(0)
  labels = (np.arange(count) % classes).astype(np.int32)
  inputs = rng.normal(size=(count, width)) + 3 * np.eye(classes, width)[labels]
  return inputs.astype(np.float32), labels


def make_spec(**changes):
  fields = dict(
    optimizer='adam',
    learning_rate=0.1,
    epochs=6,
    batch_size=16,
    checkpoint_every=2,
  )
  return train.TrainSpec(**fields | changes)


def fit(folder, network=None, spec=None, **kwargs):
  inputs, labels = separable()
  return train.fit(
    network or linear_network(),
    inputs,
    labels,
    spec or make_spec(),
    seed=0,
    folder=folder,
    title='test',
    **kwargs,
  )


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('name', optimizer.OPTIMIZERS)
def test_it_learns(tmp_path, name):
  trained = fit(tmp_path, spec=make_spec(optimizer=name))
  assert trained.history[-1]['accuracy'] > 0.9
  assert trained.history[-1]['loss'] < trained.history[0]['loss']
  assert [record['step'] for record in trained.history] == [
    4,
    8,
    12,
    16,
    20,
    24,
  ]


@pytest.mark.parametrize('die_after', [1, 2, 5])
def test_a_killed_run_ends_with_the_same_parameters(tmp_path, die_after):
  whole = fit(tmp_path / 'undisturbed')
  seen = []

  def die(record):
    seen.append(record)
    if len(seen) == die_after:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    fit(tmp_path / 'killed', on_epoch=die)
  again = []
  resumed = fit(tmp_path / 'killed', on_epoch=again.append)
  same(whole.params, resumed.params)
  assert whole.history == resumed.history == again


def test_a_ragged_batch_weighs_its_rows_only(tmp_path):
  """One step on 32 rows in a batch of 64 is the plain gradient step.

  The mean of 32 equal losses is exact, whatever order they are added in.
  """
  inputs, labels = separable(32)
  network = linear_network()._replace(
    apply=lambda params, stats, frozen, x, keys, w: (
      (x @ params['w'],),
      stats,
    )
  )
  spec = make_spec(optimizer='sgd', epochs=1, batch_size=64)
  trained = train.fit(
    network, inputs, labels, spec, seed=0, folder=tmp_path, title='test'
  )
  logits = np.zeros((32, 3))
  errors_ = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  errors_[np.arange(32), labels] -= 1
  expected = -0.1 * inputs.T @ errors_ / 32
  np.testing.assert_allclose(trained.params['w'], expected, atol=1e-6)
  assert trained.history[0]['loss'] == pytest.approx(np.log(3))


def test_rows_count_by_their_weights(tmp_path):
  """The gradient of one step is the weighted mean of those of the rows."""
  inputs, labels = separable(32)
  counts = np.linspace(0.1, 1, 32)

  def apply(params, stats, frozen, inputs, keys, weights):
    return (inputs @ params['w'],), stats

  network = linear_network()._replace(apply=apply)
  spec = train.TrainSpec('sgd', 0.1, 1, 32, 1)
  trained = train.fit(
    network,
    inputs,
    labels,
    spec,
    seed=0,
    folder=tmp_path,
    title='test',
    row_weights=counts,
  )
  errors_ = np.full((32, 3), 1 / 3)
  errors_[np.arange(32), labels] -= 1
  expected = -0.1 * inputs.T @ (counts[:, None] * errors_) / counts.sum()
  np.testing.assert_allclose(trained.params['w'], expected, atol=1e-6)


def test_a_loss_that_is_not_finite_stops(tmp_path):
  network = linear_network()._replace(frozen={'scale': jnp.array(np.nan)})
  with pytest.raises(errors.TrainingDivergedError, match='Lower the learning'):
    fit(tmp_path, network)


@pytest.mark.parametrize('calls', [1, 2, 3])
def test_every_epoch_visits_every_row_once(calls):
  """The order is the same, whatever the number of calls."""
  units, orders = np.arange(10)[:, None], []
  for epoch in range(3):
    parts = list(batches.epoch_batches(units, 4, 6, 0, epoch, calls))
    rows = np.concatenate([part.rows for part in parts])
    weights = np.concatenate([part.weights for part in parts])
    assert len(parts) == calls and rows.shape == weights.shape == (3, 6)
    assert weights.sum(1).tolist() == [4, 4, 2]
    orders.append(rows[weights > 0].tolist())
    assert sorted(orders[-1]) == list(range(10))
  expected = [
    batch.rows[batch.weights > 0].tolist()
    for batch in batches.epoch_batches(units, 4, 6, 0, 0, 3)
  ]
  assert orders[0] == sum(expected, []) and orders[0] != orders[1]


def test_small_steps_are_made_in_one_call():
  """Embeddings by the epoch, pictures step by step."""
  embeddings = np.zeros((1000, 128), np.float32)
  assert batches.num_calls(embeddings, 32, 32) == 1
  assert batches.num_calls(np.zeros((2, 8, 8, 3), np.uint8), 32, 32) == 32


def test_one_step_is_no_loop():
  """A CPU takes minutes for convolutions in a loop, even of one step."""
  network, tx = linear_network(), optimizer.make_optimizer('sgd', 0.1, 4, 1)
  update, key = train.make_update(network, tx), jax.random.key(0)
  inputs, labels = separable(16)

  def program(steps):
    batch = (inputs, labels, np.ones(16, np.float32))
    many = jax.tree.map(lambda x: np.stack([x] * steps), batch)
    state = train.initial_state(network, tx)
    made = jax.make_jaxpr(update)(
      state, network.frozen, key, parallel.shard(many, axis=1)
    )
    return str(made)

  assert 'scan' in program(2) and 'scan' not in program(1)


def test_units_stay_together():
  units = np.array([[0, 7], [1, 8], [2, 9], [3, 4], [5, 6]])
  found = np.concatenate(
    [
      rows[weights > 0].reshape(-1, 2)
      for rows, weights in batches.epoch_batches(units, 4, 6, 0, 0, 3)
    ]
  )
  assert sorted(map(tuple, found)) == sorted(map(tuple, units))
  assert (found != units).any()


def test_the_rows_of_a_unit_share_their_key(tmp_path):
  """Recorded in the statistics of a network that stores its keys' draws."""

  def apply(params, stats, frozen, inputs, keys, weights):
    draws = jax.vmap(jax.random.uniform)(keys)
    return (inputs @ params['w'],), {'draws': draws}

  network = linear_network()._replace(
    apply=apply, stats={'draws': jnp.zeros(8)}
  )
  units = np.arange(8).reshape(4, 2)
  spec = train.TrainSpec('sgd', 0.1, 1, 8, 1)
  trained = train.fit(
    network,
    np.ones((8, 5), np.float32),
    np.zeros(8, np.int32),
    spec,
    seed=0,
    folder=tmp_path,
    title='test',
    units=units,
  )
  draws = trained.stats['draws'].reshape(4, 2)
  np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
  assert len(set(draws[:, 0].tolist())) == 4


def test_even_batches():
  found = parallel.even_batches(372, 50)
  assert {len(batch) for batch in found} == {46, 47}
  np.testing.assert_array_equal(np.concatenate(found), np.arange(372))


def test_shard_refuses_what_does_not_divide(monkeypatch):
  monkeypatch.setattr(parallel, 'num_devices', lambda: 4)
  with pytest.raises(ValueError, match='3 rows do not divide among 4'):
    parallel.shard(np.zeros((3, 2)))
  with pytest.raises(ValueError):
    parallel.shard(np.zeros((0, 2)))


@pytest.mark.parametrize('memory', [None, 1 << 30])
def test_map_batches_keeps_order_and_count(memory, monkeypatch):
  """Also where batches are under way while others are fetched."""
  monkeypatch.setattr(parallel, 'device_memory', lambda: memory)
  fn = parallel.mapped(lambda scale, x: x * scale, 1, 1)
  x = np.arange(23, dtype=np.float32)
  done = []
  found = parallel.map_batches(fn, np.float32(2), (x,), 3, done.append)
  np.testing.assert_array_equal(found, 2 * x)
  assert sum(done) == 23


def make_recognizer(model='alexnet', frozen='trunk', **changes):
  fields = {
    'model': model,
    'num_classes': 3,
    'width': 8,
    'pretrained': 'none',
    'frozen': frozen,
    'logit_adjustment': 0.0,
  }
  return recognizer.Recognizer(**fields | changes)


LABELS = np.array([0, 1, 2, 0], np.int32)
ALEXNET_HEAD = {'fc6', 'fc7', 'fc8'}


@pytest.mark.parametrize(
  'model,frozen,trainable',
  [
    ('alexnet', 'trunk', {'head': ALEXNET_HEAD}),
    ('alexnet', 'all_but_last', {'head': {'fc8'}}),
    ('resnet18', 'trunk', {'head': {'fc'}}),
    ('resnet18', 'all_but_last', {'head': {'fc'}}),
    ('inception_v3', 'all_but_last', {'head': {'fc', 'AuxLogits_fc'}}),
  ],
)
def test_frozen_recognizer_trains_what_it_should(model, frozen, trainable):
  network = outline(make_recognizer(model, frozen))
  assert {n: set(tree) for n, tree in network.params.items()} == trainable
  assert len(network.loss_weights) == 1 + ('AuxLogits_fc' in str(trainable))


def test_unfrozen_recognizer_trains_everything():
  network = outline(make_recognizer('resnet18', 'none'))
  assert set(network.params) == {'trunk', 'head'}
  assert set(network.stats) == {'trunk'}


def outline(model):
  """The network to be trained, with shapes in place of numbers."""
  found = []

  def build():
    network = model.network(0, LABELS)
    found.append(network)
    return network.params, network.stats

  params, stats = jax.eval_shape(build)
  return found[0]._replace(params=params, stats=stats)


def test_auxiliary_loss_counts_four_tenths(tmp_path):
  """One step on two constant heads; only the second has a parameter."""

  def apply(params, stats, frozen, inputs, keys, weights):
    aux = jnp.stack([params['w'], -params['w']]) * jnp.ones((len(inputs), 1))
    return (jnp.zeros((len(inputs), 2)), aux), stats

  params = {'w': jnp.zeros(())}
  network = train.Network(apply, params, {}, {}, (1.0, 0.4))
  spec = train.TrainSpec('sgd', 0.5, 1, 8, 1)
  trained = train.fit(
    network,
    np.zeros((8, 1), np.float32),
    np.zeros(8, np.int32),
    spec,
    seed=0,
    folder=tmp_path,
    title='',
  )
  assert trained.history[0]['loss'] == pytest.approx(1.4 * np.log(2), rel=1e-5)
  assert float(trained.params['w']) == pytest.approx(0.5 * 0.4, rel=1e-5)


@pytest.mark.slow
def test_unfrozen_resnet_learns_and_moves_its_statistics(rng, tmp_path):
  images = np.zeros((12, 32, 32, 3), np.uint8)
  labels = np.arange(12, dtype=np.int32) % 2
  images[labels == 1, :16] = 255
  images += rng.integers(0, 20, images.shape, np.uint8)
  model = make_recognizer('resnet18', 'none')
  network = model.network(0, labels)
  trained = train.fit(
    network,
    images,
    labels,
    train.TrainSpec('adam', 1e-3, 4, 6, 10),
    seed=0,
    folder=tmp_path,
    title='',
  )
  assert trained.history[-1]['loss'] < 0.5 * trained.history[0]['loss']
  before, after = network.stats['trunk']['bn1'], trained.stats['trunk']['bn1']
  assert not np.allclose(before['mean'], after['mean'])
  variables = recognizer.trained_variables(
    network, trained.params, trained.stats
  )
  assert model.logits(variables, jnp.asarray(images)).shape == (12, 3)


def test_frozen_layers_stay_and_the_last_one_moves(rng, tmp_path):
  model = make_recognizer(frozen='all_but_last')
  network = model.network(0, LABELS)
  trained = train.fit(
    network,
    rng.random((4, 9216)).astype(np.float32),
    LABELS,
    train.TrainSpec('adam', 1e-2, 2, 4, 10),
    seed=0,
    folder=tmp_path,
    title='',
  )
  variables = recognizer.trained_variables(network, trained.params, {})
  start, _ = initial.variables('alexnet', 3, 8, 'none', 0)
  head = variables['params']['head']
  assert set(head) == ALEXNET_HEAD
  same(head['fc6'], start['params']['head']['fc6'])
  assert not np.allclose(
    head['fc8']['kernel'], start['params']['head']['fc8']['kernel']
  )


def test_logit_adjustment_adds_the_log_of_each_share():
  labels = np.array([0, 0, 0, 1], np.int32)
  network = make_recognizer(logit_adjustment=0.5).network(0, labels)
  expected = 0.5 * np.log([0.75, 0.25, 0.25])  # an empty class counts as one
  np.testing.assert_allclose(network.frozen['offset'], expected, rtol=1e-6)


def some_variables(model, rng):
  """Of a network of 3 classes; activations keep their size."""

  def draw(path, leaf):
    values = rng.standard_normal(leaf.shape, np.float32)
    kind = path[-1].key
    if kind == 'kernel':
      return values * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
    return values / 10 + (kind in ('scale', 'var'))

  shapes = {'batch_stats': {}} | networks.variable_shapes(model, 3, 8)
  return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize('model', ['alexnet', 'resnet18', 'vgg11_bn'])
def test_frozen_and_whole_model_agree(rng, model):
  images = jnp.asarray(rng.integers(0, 256, (2, 64, 64, 3), np.uint8))
  variables = jax.tree.map(jnp.asarray, some_variables(model, rng))
  trunk = {
    kind: {'trunk': tree['trunk']} for kind, tree in variables.items() if tree
  }
  features = recognizer.trunk_features(model, trunk, images)
  on_features = make_recognizer(model)
  on_images = make_recognizer(model, 'none')
  np.testing.assert_allclose(
    on_features.logits({'params': variables['params']}, features),
    on_images.logits(variables, images),
    atol=1e-4,
  )


def test_inception_resizes_pictures_to_299():
  images = jnp.zeros((1, 80, 90, 3), jnp.uint8)
  assert recognizer.as_input('inception_v3', images).shape == (1, 299, 299, 3)
  assert recognizer.as_input('resnet18', images).shape == (1, 80, 90, 3)


@pytest.mark.slow
def test_random_trunk_is_the_same_alone_and_in_the_model():
  for model in ('alexnet', 'resnet18'):
    alone, _ = initial.trunk(model, 'none', 3)
    whole, _ = initial.variables(model, 3, 8, 'none', 3)
    same(alone['params']['trunk'], whole['params']['trunk'])


def test_flatten_and_back():
  variables = {'params': {'b': np.ones(2)}, 'batch_stats': {}}
  flat = recognizer.flatten(variables)
  assert set(flat) == {'params/b'}
  same(recognizer.unflatten(flat), variables)


def test_crops_are_pieces_of_the_picture(rng):
  image = jnp.asarray(rng.random((9, 8, 3)), jnp.float32)
  crops = {
    np.asarray(image[i : i + 4, j : j + 4]).tobytes()
    for i in range(6)
    for j in range(5)
  }
  for key in jax.random.split(jax.random.key(0), 20):
    crop = np.asarray(augment.random_crop(key, image, 4))
    assert crop.tobytes() in crops


def test_affine_augmentation_keeps_shape_and_range(rng):
  image = jnp.asarray(rng.random((12, 10, 3)), jnp.float32)
  for key in jax.random.split(jax.random.key(0), 5):
    found = augment.random_affine(key, image)
    assert found.shape == image.shape
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert not np.allclose(found, image)
  flat = augment.random_affine(jax.random.key(1), jnp.full((12, 10, 3), 0.3))
  np.testing.assert_allclose(flat, 0.3, rtol=1e-5)


def test_how_far_training_has_moved_the_features(rng):
  """Not at all at first; by their length if the last layer gives twice as
  much."""
  chosen = recognition.RecognitionSettings(
    model='alexnet', pretrained='none', frozen='none', width=8
  )
  labels = np.arange(2, dtype=np.int32)
  recognized = recognition.Recognition(chosen, 0, 2)
  network = recognized.recognizer(2).network(0, labels)
  images = rng.integers(0, 256, (3, 64, 64, 3), np.uint8)
  variables = {'params': network.params, 'batch_stats': {}}
  assert recognized.features_moved(variables, images) == 0
  trunk = dict(network.params['trunk'])
  trunk['conv5'] = jax.tree.map(lambda x: 2 * x, trunk['conv5'])
  moved = {'params': network.params | {'trunk': trunk}, 'batch_stats': {}}
  assert recognized.features_moved(moved, images) == pytest.approx(1, abs=1e-5)
