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
  # The largest change of a pixel, in gray levels of 255.
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
  # The change is the same in all channels, as that of a gray picture.
  config.gray = False
  # What an attacker does who knows of the defense.
  config.adaptive = ConfigDict()
  # The weight of evading a PIRM; 0: none.
  config.adaptive.evade = 0.0
  # The PIRM that he has: one of those that are shipped, or a file.
  config.adaptive.pirm = 'shipped'
  # Further ones: he evades all of them.
  config.adaptive.beside = ()
  # The scale of the noise under which poison collides too, in gray levels.
  config.adaptive.noise_scale = 0.0
  # The change is blurred by a Gaussian of so many pixels.
  config.adaptive.smoothness = 0.0
  return config


def _other_defenses(config: ConfigDict) -> None:
  """The parameters of the other defenses, those of their papers by default."""
  config.activation_clustering = ConfigDict()
  # Independent components of the activations.
  config.activation_clustering.dimensions = 10
  # Of a class; larger clusters are not flagged.
  config.activation_clustering.largest_share = 0.35

  config.spectral_signatures = ConfigDict()
  # The most poison that any class may have; 1.5 times as much is flagged.
  config.spectral_signatures.expected_share = 0.1

  config.deep_knn = ConfigDict()
  # How many neighbors vote.
  config.deep_knn.neighbors = 50

  config.strip = ConfigDict()
  # Trusted pictures that are laid over each input.
  config.strip.overlays = 100
  # Of input and overlay: 1 is their sum, 0.5 their mean.
  config.strip.weight = 1.0
  # The share of trusted pictures that may be refused.
  config.strip.false_rejections = 0.01

  config.rap = ConfigDict()
  # The largest change of a pixel, in gray levels.
  config.rap.eps = 16.0
  config.rap.steps = 100
  config.rap.false_rejections = 0.01

  config.dp_instahide = ConfigDict()
  # Pictures in a mixture.
  config.dp_instahide.ways = 4
  # Of the Laplacian noise, in gray levels.
  config.dp_instahide.scale = 16.0

  config.rab = ConfigDict()
  # The paper has 1,000; a certificate needs hundreds.
  config.rab.models = 10
  # Of the noise, pixels from 0 to 1.
  config.rab.sigma = 0.2
  # The probability that a certificate is wrong.
  config.rab.alpha = 0.001
  # At which the accuracy is certified, in the L2 norm.
  config.rab.radii = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)

  config.smoothing = ConfigDict()
  # Of the noise, pixels from 0 to 1.
  config.smoothing.sigma = 0.25
  # Noisy copies of each input that vote.
  config.smoothing.samples = 25

  config.fine_pruning = ConfigDict()
  # Of the accuracy on trusted pictures, as a share of it.
  config.fine_pruning.largest_drop = 0.1
  # Of training on trusted pictures afterwards.
  config.fine_pruning.epochs = 10

  config.neural_cleanse = ConfigDict()
  # Passes over the trusted pictures for each class's patch.
  config.neural_cleanse.rounds = 40
  # Of these pictures.
  config.neural_cleanse.batch_size = 32
  # The share of trusted pictures that carry it in unlearning.
  config.neural_cleanse.stamped_share = 0.2
  config.neural_cleanse.epochs = 10


def get_config() -> ConfigDict:
  """Defaults: multi-class, AlexNet with a frozen trunk, the shipped PIRM."""
  config = ConfigDict()
  # Everything random follows from this number.
  config.seed = 0
  # Which recognizers are trained and judged: 'clean' (without attack),
  # 'malicious' (under attack), 'protected' (behind the defense).
  config.models = ('clean', 'malicious', 'protected')

  config.data = ConfigDict()
  # 'orl', 'lfw', 'celeba', 'tiny_imagenet', 'image_folder' or 'tfds:NAME', a
  # data set that TensorFlow Datasets has prepared for random access.
  config.data.name = ''
  # The folder of the data set; '' for its own source (orl, lfw, tfds).
  config.data.root = ''
  # The only classes to use; none: all.
  config.data.classes = ()
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
  # The share of each class's training pictures that is held out, clean, for
  # those of the other defenses that need pictures which they can trust.
  config.scenario.trusted_fraction = 0.0

  config.attack = crafting()
  # 'hidden_trigger' (the paper's), 'badnets' (visible trigger, wrong label),
  # 'blended' (transparent trigger, wrong label), 'label_consistent' (visible
  # trigger, true label) or 'sleeper_agent' (no trigger, true label: gradients
  # are matched).
  config.attack.kind = 'hidden_trigger'
  # 'blended': the share of the trigger in the picture.
  config.attack.blend = 0.2
  # 'sleeper_agent': how often the attacker trains his model anew meanwhile.
  config.attack.retrainings = 2
  # Poisons per picture of the target, each with another source.
  config.attack.passes = 2
  # The share of the poison that goes into the training set (Table 5).
  config.attack.share = 1.0

  config.fr = ConfigDict()
  # The recognizer: 'alexnet', 'vgg11_bn', 'vgg16', 'resnet18' or
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
  # 'shipped' (knows one kind of poison well), 'general' (many kinds),
  # 'hardened' (poison that evades those two, too; see babam_jax/assets),
  # 'train', or the file of a trained one.
  config.pirm.checkpoint = 'shipped'
  # Further ones, by name or file: the highest of all scores counts.
  config.pirm.beside = ()
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
  # Leave out pictures whose path there begins with one of these.
  config.pirm.leave_out = ()
  # Pictures larger than data.size keep their resolution and are cropped, and
  # they are used before smaller ones, which are resized.
  config.pirm.native = False
  # Pictures to poison; as many again serve as sources.
  config.pirm.num_poison = 320
  # Clean pictures beside the originals of the poisoned ones.
  config.pirm.num_clean = 960
  # The share of pictures that are made gray before anything else.
  config.pirm.gray_fraction = 0.25
  # The share of pictures held out for measuring it.
  config.pirm.holdout_fraction = 0.3
  # How often each picture is used, each time processed in another way (JPEG,
  # resizing, blur, sharpening, noise); 0: once, as it is.
  config.pirm.processed_copies = 0
  # How its poison is made.
  config.pirm.poison = crafting()
  config.pirm.poison.iterations = 60
  # Kinds of poison, each for an equal share of the pictures: what each sets in
  # config.pirm.poison, 'tap=fc7 eps=8'. '' sets nothing.
  config.pirm.kinds = ('',)
  # A poison and its original are in the same batch, cropped alike.
  config.pirm.paired = False
  config.pirm.optimizer = 'adam_cosine'
  config.pirm.learning_rate = 2e-3
  config.pirm.epochs = 40
  config.pirm.batch_size = 64
  config.pirm.checkpoint_every = 5

  config.defense = ConfigDict()
  # Who flags: 'pirm', 'oracle' (the ground truth; paper 4.12, by hand),
  # 'victim' (every picture of the target's class; paper 4.11), or, by the model
  # under attack, 'activation_clustering', 'spectral_signatures', 'deep_knn',
  # 'strip' or 'rap'.
  config.defense.flags = 'pirm'
  # What happens to flagged pictures: 'perturb', 'drop' or 'none'.
  config.defense.action = 'perturb'
  # The noise budget; the noise scale is sensitivity / epsilon gray levels.
  config.defense.epsilon = 0.01
  # 'laplace' (additive), or 'released' (the released script's arithmetic).
  config.defense.mode = 'laplace'
  # Distance to the class's mean image: 'squared' or 'euclidean'; 'constant'
  # takes every sensitivity for 1: noise without Algorithm 1's calibration.
  config.defense.distance = 'squared'
  # How the protected model is trained: 'plain', 'dp_instahide', 'rab' or
  # 'smoothing'.
  config.defense.training = 'plain'
  # What is done to it afterwards: 'none', 'fine_pruning' or 'neural_cleanse'.
  config.defense.repair = 'none'
  # Who checks its inputs: 'none', 'strip' or 'rap'. What is refused counts as
  # not recognized.
  config.defense.inputs = 'none'
  _other_defenses(config.defense)

  config.evaluation = ConfigDict()
  # Random trigger positions per test picture of the source.
  config.evaluation.positions = 10
  # Pictures per step, over all devices.
  config.evaluation.batch_size = 64

  # A study: this experiment in variations, collected in one table. No rows: the
  # experiment alone.
  config.study = ConfigDict()
  config.study.title = ''
  # What the reader must know to compare its figures with the paper's.
  config.study.note = ''
  # Records: Row('VGG16', {'fr.model': 'vgg16', 'fr.epochs': 24}). They may name
  # their curve or plot, panel='frozen', and the paper's figures,
  # paper={'ASR %': 29.2} (babam_jax/config/rows.py).
  config.study.rows = ()
  # (heading, field of metrics.json): ('ASR', 'models.malicious.asr').
  config.study.columns = ()
  # What the repeats of each row set; the table has their means.
  config.study.repeats = ({'seed': 0},)
  # Whether rows for the mean, the least and the most of all runs follow.
  config.study.pooled = False
  # The field on the x axis of the study's curves, of which each panel is one;
  # '' for bars.
  config.study.x = ''
  # Two headings, for the x and the y axis of scatter plots, of which each panel
  # is one. (): no such plots.
  config.study.tradeoff = ()
  return config
