"""The fields that all experiments share, with their defaults."""

from ml_collections import ConfigDict


def crafting() -> ConfigDict:
  """How poison is made (paper 3.3)."""
  config = ConfigDict()
  # The surrogate, in whose features poison and source collide: 'alexnet',
  # 'vgg11_bn', 'vgg16', 'resnet18' or 'inception_v3'.
  config.model = 'alexnet'
  # Its weights: 'full' (ImageNet; get them with launch.weights), 'trunk' (the
  # convolutions alone; AlexNet's and VGG16's are embedded) or 'none' (random).
  config.pretrained = 'trunk'
  # Which activations: 'pool5', 'fc6' or 'fc7' of AlexNet and VGG; 'layer1' to
  # 'layer4' or 'avgpool' of ResNet18; 'Mixed_5d', 'Mixed_6e', 'Mixed_7c' or
  # 'avgpool' of InceptionV3.
  config.tap = 'pool5'
  # The side of the square trigger, in pixels.
  config.trigger_size = 30
  # The largest change of a pixel, in grey levels of 255.
  config.eps = 16.0
  # 'sign_momentum', 'adam', or 'reference' (the released schedule: plain
  # descent at 0.01; give it iterations=5000 and pair_every=1).
  config.optimizer = 'sign_momentum'
  # Steps at most.
  config.iterations = 100
  # A picture is done when its squared feature distance is below this.
  config.stop_distance = 10.0
  # Who collides with whom: 'hungarian', 'greedy', 'reference' or 'fixed'.
  config.pairing = 'hungarian'
  # Steps between two pairings.
  config.pair_every = 50
  # Pictures at a time, over all devices.
  config.batch_size = 48
  return config


def get_config() -> ConfigDict:
  """Defaults: multi-class, AlexNet with a frozen trunk, the shipped PIRM."""
  config = ConfigDict()
  # Everything random follows from this number.
  config.seed = 0

  config.data = ConfigDict()
  # 'orl', 'lfw', 'tiny_imagenet' or 'image_folder'.
  config.data.name = ''
  # The folder of the data set; '' for its own source (orl, lfw).
  config.data.root = ''
  # Pictures are resized to size x size pixels.
  config.data.size = 224
  # Classes with fewer pictures are left out.
  config.data.min_images = 10
  # Leave unreadable pictures out, instead of stopping at the first.
  config.data.skip_unreadable = False

  config.scenario = ConfigDict()
  # 'multiclass' (who is it?) or 'binary' (is it the target?).
  config.scenario.task = 'multiclass'
  # The attacker, who shows the trigger.
  config.scenario.source = ''
  # The victim, for whom the attacker wants to be taken.
  config.scenario.target = ''
  # Pictures of source and target, each, that are used for making poison.
  config.scenario.poison_images = 186
  # Test pictures of source and target, each.
  config.scenario.test_images = 35
  # The share of the other classes' pictures that are test pictures.
  config.scenario.test_fraction = 0.1
  # Binary: pictures of other people in the negative class.
  config.scenario.negatives = 350

  config.attack = crafting()
  # Poisons per picture of the target, each with another source.
  config.attack.passes = 2

  config.fr = ConfigDict()
  # The recogniser: 'alexnet', 'vgg11_bn', 'vgg16', 'resnet18' or
  # 'inception_v3' (which resizes pictures to 299 x 299).
  config.fr.model = 'alexnet'
  # Units of fc6 and fc7 of AlexNet and VGG; torchvision's have 4096.
  config.fr.width = 4096
  # Its weights at the start: 'full', 'trunk' or 'none', as in config.attack.
  config.fr.pretrained = 'trunk'
  # What does not train: 'trunk' (the convolutions), 'all_but_last' (the paper's
  # "frozen") or 'none'.
  config.fr.frozen = 'trunk'
  # How far training corrects for unequal class sizes: 0 not at all, 1 fully.
  config.fr.logit_adjustment = 1.0
  # 'adam', 'adam_cosine' or 'sgd'.
  config.fr.optimizer = 'adam_cosine'
  config.fr.learning_rate = 3e-4
  config.fr.epochs = 15
  # Pictures per step, over all devices.
  config.fr.batch_size = 128
  # Epochs between two checkpoints.
  config.fr.checkpoint_every = 5

  config.pirm = ConfigDict()
  # 'shipped' (comes with the project), 'train', or the file of a trained one.
  config.pirm.checkpoint = 'shipped'
  # A picture with a higher probability of poison is flagged.
  config.pirm.threshold = 0.5
  # Pictures per scoring step, over all devices.
  config.pirm.score_batch_size = 32
  # The rest is for checkpoint='train': 'compact' or 'vgg16' (the paper's).
  config.pirm.variant = 'compact'
  # vgg16: convolutions that train, counted from the last (of 13).
  config.pirm.trainable_convs = 6
  # A folder of natural images, at any depth; never the faces to be judged.
  config.pirm.root = ''
  # Pictures to poison; as many again serve as sources.
  config.pirm.num_poison = 320
  # Clean pictures beside the originals of the poisoned ones.
  config.pirm.num_clean = 960
  # The share of pictures that are made grey before anything else.
  config.pirm.grey_fraction = 0.25
  # The share of pictures held out for measuring it.
  config.pirm.holdout_fraction = 0.3
  # How its poison is made.
  config.pirm.poison = crafting()
  config.pirm.poison.iterations = 60
  config.pirm.optimizer = 'adam_cosine'
  config.pirm.learning_rate = 2e-3
  config.pirm.epochs = 40
  config.pirm.batch_size = 64
  config.pirm.checkpoint_every = 5

  config.defense = ConfigDict()
  # Who flags: 'pirm', or 'oracle' (the ground truth; paper 4.12, by hand).
  config.defense.flags = 'pirm'
  # What happens to flagged pictures: 'perturb', 'drop' or 'none'.
  config.defense.action = 'perturb'
  # The noise budget; the noise scale is sensitivity / epsilon grey levels.
  config.defense.epsilon = 0.01
  # 'laplace' (additive), or 'released' (the released script's arithmetic).
  config.defense.mode = 'laplace'
  # Distance to the class's mean image: 'squared' or 'euclidean'.
  config.defense.distance = 'squared'

  config.evaluation = ConfigDict()
  # Random trigger positions per test picture of the source.
  config.evaluation.positions = 10
  # Pictures per step, over all devices.
  config.evaluation.batch_size = 64
  return config
