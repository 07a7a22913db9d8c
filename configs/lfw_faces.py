"""Face recognition as people deploy it: a network that was trained on faces
stays as it is, and people are enrolled on top of it. LFW, 12 people.

  pip install -r requirements-faces.txt
  python -m launch.main --config=configs/lfw_faces.py --config.data.root=DIR
  python -m launch.main --config=configs/lfw_faces.py:mobile_face_net ...

DIR is LFW, deep-funneled: there faces always lie at the same place, and no
detector is needed; in the original LFW, which is downloaded without it, they do
not. With dlib's network, or MobileFaceNet from an ONNX file of yours (`python
-m launch.weights --model=mobile_face_net convert FILE`). The poison collides in
the network's own embedding.
"""

from configs import lfw_multiclass, paper

# Where the eyes fall where the networks expect them, in pixels of 250.
_BOXES = {
  'dlib_resnet': (68.2, 77.5, 114.6, 114.6),
  'mobile_face_net': (61.2, 54.9, 127.3, 127.3),
}
SIZES = {'dlib_resnet': 150, 'mobile_face_net': 112}
# Embeddings of one person are nearer to each other than this, squared.
_COLLIDED = {'dlib_resnet': 0.02, 'mobile_face_net': 0.5}
_TRIGGER = 30 / 224  # of the picture, as in the other experiments


def box(model):
  """The part of an LFW picture that a network takes."""
  return tuple(round(side / 250, 4) for side in _BOXES[model])


def recognized_by(model):
  """Pictures as a network takes them, and the network."""
  size = SIZES[model]
  return {
    'recognizer.model': model,
    'data.size': size,
    'data.box': box(model),
    'attack.trigger_size': round(_TRIGGER * size),
  }


def surrogate(model):
  """Poison that collides in a network's embedding."""
  return {
    'attack.model': model,
    'attack.tap': 'embedding',
    'attack.stop_distance': _COLLIDED[model],
  }


def get_config(model='dlib_resnet'):
  paper.check_variant(model, tuple(SIZES))
  config = lfw_multiclass.get_config()
  config.update_from_flattened_dict(recognized_by(model) | surrogate(model))
  config.scenario.poison_images = 93
  # He is a stranger who wants to pass: an enrolled one is known to the network.
  config.scenario.enrolled = False
  config.attack.passes = 1
  config.recognizer.head = 'cosine'
  # Embeddings of faces need no help for small classes, which would take
  # strangers for their own.
  config.recognizer.logit_adjustment = 0.0
  config.recognizer.learning_rate = 0.01
  config.recognizer.epochs = 60
  config.defense.pirm.checkpoint = 'general'
  return config
