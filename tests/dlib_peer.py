"""What dlib itself says; as a script it writes the golden fixture.

pip install dlib-bin
python tests/dlib_peer.py
"""

import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'dlib_resnet.npz'


def pictures(count=4):
  """Pictures of large, soft squares, 150 pixels a side."""
  rng = np.random.default_rng(7)
  coarse = rng.integers(0, 256, (count, 10, 10, 3), np.uint8)
  fine = rng.integers(0, 32, (count, 150, 150, 3), np.uint8)
  return coarse.repeat(15, 1).repeat(15, 2) // 8 * 7 + fine


def embeddings(path, images):
  """dlib's own, [n, 128]."""
  import dlib

  network = dlib.face_recognition_model_v1(str(path))
  return np.array([network.compute_face_descriptor(x) for x in images])


if __name__ == '__main__':
  from babam_jax.models.pretrained import weights

  path = weights.embedded_path('dlib_resnet')
  np.savez_compressed(GOLDEN, embeddings=embeddings(path, pictures()))
