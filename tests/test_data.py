import io
import json
import os
import struct
import subprocess
import sys

import numpy as np
import prepared_data
import pytest
from conftest import REPOSITORY, write_faces
from PIL import Image, ImageOps

from babam_jax import errors
from babam_jax.data import datasets, decoding, image_folder, scenario
from babam_jax.data.image_folder import Picture

RED = (200, 30, 40)


def red(mode='RGB', size=(20, 10)):
  image = Image.new('RGB', size, RED)
  return image.quantize() if mode == 'P' else image.convert(mode)


@pytest.mark.parametrize(
  'name,mode',
  [
    ('a.jpg', 'RGB'),
    ('a.jpg', 'CMYK'),
    ('a.png', 'RGB'),
    ('a.png', 'RGBA'),
    ('a.png', 'P'),
    ('a.bmp', 'RGB'),
    ('a.webp', 'RGB'),
    ('a.ppm', 'RGB'),
  ],
)
def test_formats_and_modes(tmp_path, name, mode):
  red(mode).save(tmp_path / name)
  found = np.asarray(decoding.decode((tmp_path / name).read_bytes()).image)
  assert found.shape == (10, 20, 3) and found.dtype == np.uint8
  np.testing.assert_allclose(found[5, 5], RED, atol=12)


@pytest.mark.parametrize('name', ['a.png', 'a.pgm', 'a.jpg', 'a.bmp'])
def test_gray(tmp_path, name):
  Image.new('L', (6, 4), 77).save(tmp_path / name)
  found = np.asarray(decoding.decode((tmp_path / name).read_bytes()).image)
  np.testing.assert_array_equal(found, np.full((4, 6, 3), 77))


@pytest.mark.parametrize('name', ['a.png', 'a.pgm'])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
  values = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
  if name == 'a.png':
    Image.fromarray(values).save(tmp_path / name)
  else:
    (tmp_path / name).write_bytes(
      b'P5 2 2 65535\n' + values.astype('>u2').tobytes()
    )
  found = np.asarray(decoding.decode((tmp_path / name).read_bytes()).image)
  np.testing.assert_array_equal(found[..., 0], [[0, 100], [200, 255]])


def test_a_malformed_tag_does_not_hide_the_rotation():
  """Pillow's own `exif_transpose` fails at such a one."""
  entries = [
    (0x0112, 3, 1, struct.pack('<HH', 6, 0)),  # turned by 90 degrees
    (0x0128, 2, 1, b'x\0\0\0'),  # a unit that is a text
  ]
  tags = b''.join(struct.pack('<HHI', *e[:3]) + e[3] for e in entries)
  head = struct.pack('<2sHIH', b'II', 42, 8, len(entries))
  file = io.BytesIO()
  Image.new('RGB', (40, 30)).save(
    file, 'JPEG', exif=b'Exif\0\0' + head + tags + bytes(4)
  )
  with pytest.raises(struct.error):
    ImageOps.exif_transpose(Image.open(file))
  assert decoding.decode(file.getvalue()).image.size == (30, 40)


def test_exif_rotation_is_applied(tmp_path):
  image = red()
  exif = image.getexif()
  exif[0x0112] = 6  # turned by 90 degrees
  image.save(tmp_path / 'a.jpg', exif=exif)
  assert decoding.decode((tmp_path / 'a.jpg').read_bytes()).image.size == (
    10,
    20,
  )


def test_natural_order(tmp_path):
  for name in ('s10', 's2', 's1'):
    (tmp_path / name).mkdir()
    red().save(tmp_path / name / '1.png')
  pictures = image_folder.class_folders(tmp_path, 'config.data.root')
  assert [p.class_name for p in pictures] == ['s1', 's2', 's10']


def test_names_that_are_odd(tmp_path):
  """Digits that are no decimals, and bytes that are no UTF-8."""
  for name in ('s10\u00b25', 's2', os.fsdecode(b'lat\xe9n')):
    (tmp_path / name).mkdir()
    red().save(tmp_path / name / '1.png')
  pictures = image_folder.class_folders(tmp_path, 'config.data.root')
  assert len({p.class_name for p in pictures}) == 3
  assert image_folder.fingerprint(pictures)


def test_fingerprint_sees_contents_and_names(tmp_path):
  write_faces(tmp_path, 2, 2)
  pictures = image_folder.class_folders(tmp_path, 'config.data.root')
  first = image_folder.fingerprint(pictures)
  assert first == image_folder.fingerprint(pictures)
  red().save(pictures[0].where)
  assert first != image_folder.fingerprint(pictures)


def broken_jpeg():
  buffer = io.BytesIO()
  red(size=(64, 64)).save(buffer, 'JPEG')
  return buffer.getvalue()[:300]


@pytest.mark.parametrize('content', [b'', b'not an image', broken_jpeg()])
def test_unreadable_images_are_named_or_skipped(tmp_path, content):
  write_faces(tmp_path, 1, 2)
  (tmp_path / 'person0' / 'bad.jpg').write_bytes(content)
  pictures = image_folder.class_folders(tmp_path, 'config.data.root')
  with pytest.raises(errors.UserError, match=r'bad\.jpg: unreadable'):
    image_folder.load(pictures, ('person0',), 16, skip_unreadable=False)
  found = image_folder.load(pictures, ('person0',), 16, skip_unreadable=True)
  assert len(found) == 2


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 50)
  red().save(tmp_path / 'bomb.png')
  picture = image_folder.in_file(tmp_path / 'bomb.png', 'bomb.png', 'a')
  with pytest.raises(errors.UserError, match='unreadable'):
    image_folder.load([picture], ('a',), 16, skip_unreadable=False)


def test_embedded_orl_faces():
  pictures = datasets.find_pictures('orl', '')
  names = [p.class_name for p in pictures]
  assert len(pictures) == 400 and len(set(names)) == 40
  assert names[0] == 's1' and names[-1] == 's40'
  assert decoding.decode(pictures[0].read()).image.size == (92, 112)


def write_celeba(root, listing):
  folder = root / 'img_align_celeba'
  folder.mkdir()
  for i in range(1, 5):
    red().save(folder / f'{i:06d}.jpg')
  (root / 'identity_CelebA.txt').write_text(listing)


def test_celeba_layout(tmp_path):
  write_celeba(tmp_path, '000001.jpg 2880\n000002.jpg 7\n000003.jpg 2880\n')
  found = datasets.find_pictures('celeba', str(tmp_path))
  assert [(p.id, p.class_name) for p in found] == [
    ('000001.jpg', '2880'),
    ('000002.jpg', '7'),
    ('000003.jpg', '2880'),
  ]
  assert decoding.decode(found[0].read()).image.size == (20, 10)


def test_a_byte_order_mark_loses_no_picture(tmp_path):
  write_celeba(tmp_path, '\ufeff000001.jpg 2880\n000002.jpg 7\n')
  found = datasets.find_pictures('celeba', str(tmp_path))
  assert [p.id for p in found] == ['000001.jpg', '000002.jpg']


def test_celeba_with_other_names(tmp_path):
  write_celeba(tmp_path, '000001.png 2880\n')
  with pytest.raises(errors.UserError) as caught:
    datasets.find_pictures('celeba', str(tmp_path))
  assert "'000001.jpg'" in str(caught.value)
  assert "'000001.png'" in str(caught.value)


def test_a_home_in_a_path_is_found(tmp_path, monkeypatch):
  """A shell leaves it as it is: `--config.data.root=~/people`."""
  write_faces(tmp_path / 'people', 2, 2)
  monkeypatch.setenv('HOME', str(tmp_path))
  assert len(datasets.find_pictures('image_folder', '~/people')) == 4


def test_files_that_do_not_end_as_pictures_are_counted(tmp_path, capsys):
  write_faces(tmp_path, 1, 2)
  for name in ('a.txt', 'b.txt', 'c.heic', 'd', '.hidden'):
    (tmp_path / 'person0' / name).write_text('x')
  red().save(tmp_path / 'person0' / 'e.jfif', 'JPEG')
  found = image_folder.find_images(tmp_path, 'config.data.root')
  assert len(found) == 3
  told = capsys.readouterr().err
  assert '4 files are left out' in told and '.txt (2)' in told


@pytest.mark.parametrize('listing', ['000001.jpg\n', '1 2 3\n', '', None])
def test_celeba_without_a_list_of_identities(tmp_path, listing):
  write_celeba(tmp_path, listing or '')
  if listing is None:
    (tmp_path / 'identity_CelebA.txt').unlink()
  with pytest.raises(errors.UserError, match='identity_CelebA.txt'):
    datasets.find_pictures('celeba', str(tmp_path))


def test_some_classes_only(tmp_path):
  write_faces(tmp_path, 4, 2)
  names = ('person3', 'person1')
  found = datasets.find_pictures('image_folder', str(tmp_path), names)
  assert {p.class_name for p in found} == set(names) and len(found) == 4
  with pytest.raises(errors.UserError, match="'person9'"):
    datasets.find_pictures('image_folder', str(tmp_path), ('person9',))


@pytest.fixture(scope='module')
def prepared_root(tmp_path_factory):
  pytest.importorskip('tensorflow_datasets')
  return prepared_data.prepare(tmp_path_factory.mktemp('tfds'))


@pytest.mark.parametrize(
  'name,classes',
  [
    ('like_lfw', {'Ann_B', 'Bob_C'}),
    ('like_celeb_a', {'2880', '7'}),
    ('like_imagenet', {'ann', 'bob'}),
  ],
)
def test_prepared_data_sets(prepared_root, name, classes):
  found = datasets.find_pictures(f'tfds:{name}', prepared_root)
  assert len(found) == len({p.id for p in found}) == 8
  assert {p.class_name for p in found} == classes
  values = {
    int(np.asarray(decoding.decode(p.read()).image)[0, 0, 0]): p for p in found
  }
  assert sorted(values) == list(range(8))  # each picture once
  for value, picture in values.items():
    assert picture.class_name == values[value % 2].class_name
  assert image_folder.fingerprint(found) == image_folder.fingerprint(
    datasets.find_pictures(f'tfds:{name}', prepared_root)
  )


@pytest.mark.parametrize(
  'name', ['nothing', 'no name', 'without_classes', 'lfw', 'huggingface:mnist']
)
def test_what_is_not_prepared_is_told(prepared_root, name):
  with pytest.raises(errors.UserError, match='download_and_prepare'):
    datasets.find_pictures(f'tfds:{name}', prepared_root)


@pytest.mark.parametrize(
  'field',
  [
    {'pythonClassName': 'evil_module.Text', 'text': {}},
    {'python_class_name': 'evil_module.Text', 'text': {}},
    {'type': 'evil_module.Text', 'content': {}},  # of earlier versions
  ],
)
@pytest.mark.parametrize('place', ['whole', 'label'])
def test_a_data_set_that_wants_a_module_loaded(
  tmp_path, monkeypatch, field, place
):
  """TFDS imports the class of a feature, wherever it is said to be."""
  pytest.importorskip('tensorflow_datasets')
  root = prepared_data.prepare(tmp_path / 'tfds')
  (path,) = (tmp_path / 'tfds' / 'like_lfw').rglob('features.json')
  content = json.loads(path.read_text())
  if place == 'label':
    content['featuresDict']['features']['label'] = field
  path.write_text(json.dumps(field if place == 'whole' else content))
  marker = tmp_path / 'it_ran'
  text = f'open({str(marker)!r}, "w")'
  (tmp_path / 'evil_module.py').write_text(text)
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(errors.UserError, match="'evil_module.Text'"):
    datasets.find_pictures('tfds:like_lfw', root)
  assert not marker.exists()


def test_prepared_data_sets_need_no_tensorflow(prepared_root):
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      'import sys; from babam_jax.data import datasets;'
      f'found = datasets.find_pictures("tfds:like_lfw", {prepared_root!r});'
      'assert found[0].read(); assert "tensorflow" not in sys.modules',
    ],
    cwd=REPOSITORY,
  )
  assert done.returncode == 0


def test_tiny_imagenet_layout(tmp_path):
  folder = tmp_path / 'train' / 'n01443537' / 'images'
  folder.mkdir(parents=True)
  red().save(folder / 'n01443537_0.JPEG')
  (tmp_path / 'train' / 'n01443537' / 'n01443537_boxes.txt').write_text('x')
  pictures = datasets.find_pictures('tiny_imagenet', str(tmp_path))
  assert [p.class_name for p in pictures] == ['n01443537']


@pytest.mark.parametrize(
  'name,root,message',
  [
    ('lfw', '/no/such/folder', "config.data.root: no folder '/no/such/folder'"),
    ('image_folder', '', 'config.data.root: is empty'),
    ('cifar', '', "config.data.name: no data set 'cifar'"),
  ],
)
def test_missing_data(name, root, message):
  with pytest.raises(errors.UserError, match=message):
    datasets.find_pictures(name, root)


def test_folders_without_images_or_classes(tmp_path):
  with pytest.raises(errors.UserError, match='no image below'):
    datasets.find_pictures('image_folder', str(tmp_path))
  red().save(tmp_path / 'a.png')
  with pytest.raises(errors.UserError, match='no class folders'):
    datasets.find_pictures('image_folder', str(tmp_path))


LFW = {
  'George_W_Bush': 530,
  'Colin_Powell': 236,
  'Tony_Blair': 144,
  'Donald_Rumsfeld': 121,
  'Gerhard_Schroeder': 109,
  'Ariel_Sharon': 77,
  'Hugo_Chavez': 71,
  'Junichiro_Koizumi': 60,
  'Jean_Chretien': 55,
  'John_Ashcroft': 53,
  'Jacques_Chirac': 52,
  'Serena_Williams': 52,
  'Somebody_Else': 20,
}


def lfw_pictures():
  return [
    Picture('', f'{name}/{i}.jpg', name, bytes)
    for name, count in LFW.items()
    for i in range(count)
  ]


def split(pictures=None, min_images=50, seed=0, **changes):
  chosen = scenario.ScenarioSettings(
    **{'source': 'Colin_Powell', 'target': 'George_W_Bush'} | changes
  )
  return scenario.split(
    pictures or lfw_pictures(), chosen, min_images=min_images, seed=seed
  )


def ids(pictures):
  return {p.id for p in pictures}


@pytest.mark.parametrize('task', ['multiclass', 'binary'])
def test_split_is_the_authors(task):
  found = split(task=task)
  by_person = {
    part: [p.id.split('/')[0] for p in members]
    for part, members in found.parts.items()
  }
  assert by_person['poison_targets'] == ['George_W_Bush'] * 186
  assert by_person['poison_sources'] == ['Colin_Powell'] * 186
  assert by_person['test'].count('George_W_Bush') == 35
  assert by_person['test'].count('Colin_Powell') == 35
  assert by_person['train'].count('George_W_Bush') == 309
  assert by_person['train'].count('Colin_Powell') == 15
  everything = [p.id for members in found.parts.values() for p in members]
  assert len(everything) == len(set(everything))
  assert len(found.source_test_ids) == 35
  if task == 'multiclass':
    assert len(everything) == 1560 and len(found.class_names) == 12
    assert by_person['test'].count('Tony_Blair') == 14
  else:
    assert len(everything) == 530 + 236 + 350
    assert found.class_names == ('not_George_W_Bush', 'George_W_Bush')
    assert found.source == 'not_George_W_Bush'


def test_split_follows_the_seed():
  assert ids(split().parts['test']) == ids(split().parts['test'])
  assert ids(split().parts['test']) != ids(split(seed=1).parts['test'])


@pytest.mark.parametrize('fraction', [0.1, 0.9])
def test_who_has_a_single_picture_is_known_by_it(fraction):
  few = [
    Picture('', f'{n}/{i}.jpg', str(n), bytes) for n in (1, 2) for i in range(n)
  ]
  found = split(lfw_pictures() + few, min_images=1, test_fraction=fraction)
  for part, people in (('train', ['1', '2']), ('test', ['2'])):
    here = sorted(p.class_name for p in found.parts[part] if p in few)
    assert here == people


def test_trusted_pictures_come_from_training_alone():
  whole, found = split(), split(trusted_fraction=0.1)
  for part in ('test', 'poison_targets', 'poison_sources'):
    assert ids(found.parts[part]) == ids(whole.parts[part])
  both = ids(found.parts['train']) | ids(found.parts['trusted'])
  assert both == ids(whole.parts['train'])
  people = {p.class_name for p in found.parts['trusted']}
  assert people == set(found.class_names)
  assert len(found.parts['trusted']) == pytest.approx(0.1 * len(both), abs=6)


def test_binary_negatives_are_the_same_in_all_experiments():
  def negatives(seed):
    found = split(task='binary', seed=seed)
    chosen = found.parts['train'] + found.parts['test']
    return {i for i in ids(chosen) if not i.startswith(('Colin', 'George_W'))}

  assert len(negatives(0)) == 350
  assert negatives(0) == negatives(1)


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'source': 'Nobody'}, "config.scenario.source: no class 'Nobody'"),
    ({'target': 'Somebody_Else'}, 'config.scenario.target: no class'),
    ({'source': 'Tony_Blair'}, 'has 144 images; expected at least 222'),
    ({'source': 'George_W_Bush'}, 'is the target too'),
  ],
)
def test_impossible_scenarios(changes, message):
  with pytest.raises(errors.UserError, match=message):
    split(**changes)
