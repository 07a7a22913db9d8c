"""Who attacks whom, and what each picture is used for (paper 4.2 to 4.4).

The pictures of the target (victim) and of the source (attacker) are divided
into three disjoint parts: for making poison, for testing, for training. All
other classes are divided into test and training. A share of the training
pictures may be held out for defenses that need trusted, clean pictures.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from babam_jax import errors, seeds
from babam_jax.data.examples import Examples
from babam_jax.data.image_folder import Picture, load, natural_order
from babam_jax.settings import setting

PARTS = ('train', 'test', 'poison_targets', 'poison_sources', 'trusted')
TASKS = ('multiclass', 'binary')


@dataclasses.dataclass(frozen=True)
class ScenarioSettings:
  """Who attacks whom, and how many pictures are used for what."""

  task: str = setting(
    'multiclass',
    "'multiclass' (who is it?) or 'binary' (is it the target?).",
    choices=TASKS,
  )
  source: str = setting('', 'The attacker, who shows the trigger.')
  target: str = setting(
    '', 'The victim, whom the attacker wants to impersonate.'
  )
  poison_images: int = setting(
    186,
    'Pictures of the source, and as many of the target, for making poison.',
    at_least=1,
  )
  test_images: int = setting(
    35, 'Test pictures of the source, and as many of the target.', at_least=1
  )
  target_images: int = setting(
    0,
    'The most clean pictures of the target to train on, beside the poison; 0: '
    'all that are left.',
    at_least=0,
  )
  test_fraction: float = setting(
    0.1,
    "The share of the other classes' pictures that are test pictures.",
    at_least=0,
    at_most=1,
  )
  enrolled: bool = setting(
    True,
    'Whether the attacker is one of the people to be recognized. If not, none '
    'of his pictures but the poison is learned from, and he counts in the '
    'attack alone, not in the accuracy.',
  )
  negatives: int = setting(
    350,
    'Binary: pictures of other people in the negative class.',
    at_least=1,
  )
  trusted_fraction: float = setting(
    0.0,
    "The share of each class's training pictures that is held out, clean, for "
    'defenses that need trusted pictures.',
    at_least=0,
    at_most=1,
  )


@dataclasses.dataclass(frozen=True)
class Split:
  """What each picture is used for.

  Attributes:
    parts: the pictures of each of `PARTS`; no picture is in two parts.
    class_names: the classes that the recognizer distinguishes.
    source_test_ids: the test pictures that show the source person.
    source: the name of the source's class (binary: the negative class).
    target: the name of the target's class.
    enrolled: whether the source is one of the people to be recognized.
  """

  parts: dict[str, list[Picture]]
  class_names: tuple[str, ...]
  source_test_ids: tuple[str, ...]
  source: str
  target: str
  enrolled: bool


@dataclasses.dataclass(frozen=True)
class Scenario:
  """The decoded pictures of a `Split`.

  Attributes:
    train: the clean training set.
    test: test pictures of all classes.
    poison_targets: pictures of the target, to be perturbed.
    poison_sources: pictures of the source; poison collides with them, patched.
    trusted: clean pictures of all classes, in no other part; may be empty.
    source_test: the rows of `test` that show the source person.
    source_label: the label of the source.
    target_label: the label of the target.
    enrolled: whether the source is one of the people to be recognized.
  """

  train: Examples
  test: Examples
  poison_targets: Examples
  poison_sources: Examples
  trusted: Examples
  source_test: Examples
  source_label: int
  target_label: int
  enrolled: bool


def _by_class(
  pictures: Sequence[Picture], min_images: int
) -> dict[str, list[Picture]]:
  classes = defaultdict(list)
  for picture in pictures:
    classes[picture.class_name].append(picture)
  return {
    name: classes[name]
    for name in sorted(classes, key=natural_order)
    if len(classes[name]) >= min_images
  }


def _check_people(classes, source, target, needed, min_images):
  for field, name in (('source', source), ('target', target)):
    if name not in classes:
      shown = ', '.join(list(classes)[:12]) + (
        '...' if len(classes) > 12 else ''
      )
      raise errors.UserError(
        f'config.scenario.{field}: no class {name!r} with {min_images} or more '
        f'images (config.data.min_images); found {len(classes)} classes: '
        f'{shown or "none"}. Choose one of them.'
      )
    if len(classes[name]) < needed:
      raise errors.UserError(
        f'config.scenario.{field}: class {name!r} has {len(classes[name])} '
        f'images; expected at least {needed}: poison_images + test_images + 1 '
        'for training. Lower config.scenario.poison_images or test_images.'
      )
  if source == target:
    raise errors.UserError(
      f'config.scenario.source: is the target too ({target!r}); expected '
      'another person. Change one of config.scenario.source and target.'
    )


def split(
  pictures: Sequence[Picture],
  chosen: ScenarioSettings,
  *,
  min_images: int,
  seed: int,
) -> Split:
  """Divides the pictures of a data set.

  Args:
    pictures: the whole data set.
    chosen: who attacks whom, and how many pictures are used for what. In the
      binary task the negative class has the source's pictures and, in equal
      numbers, those of the others; if trusted pictures are held out, then at
      least one of each class.
    min_images: classes with fewer pictures are left out.
    seed: the experiment's seed.

  Raises:
    UserError: a class is missing or too small, or source equals target.
  """
  source, target = chosen.source, chosen.target
  classes = _by_class(pictures, min_images)
  _check_people(
    classes,
    source,
    target,
    chosen.poison_images + chosen.test_images + 1,
    min_images,
  )
  others = [name for name in classes if name not in (source, target)]
  parts = {part: [] for part in PARTS}
  for name, members in classes.items():
    if chosen.task == 'binary' and name not in (source, target):
      # The same negatives in all binary experiments, whatever their seed.
      fixed = seeds.numpy_rng(0, f'negatives/{name}')
      members = _shuffled(members, fixed)[: chosen.negatives // len(others)]
    members = _shuffled(members, seeds.numpy_rng(seed, f'split/{name}'))
    if name in (source, target):
      held = chosen.poison_images + chosen.test_images
      people = 'poison_targets' if name == target else 'poison_sources'
      parts[people] += members[: chosen.poison_images]
      parts['test'] += members[chosen.poison_images : held]
      rest = members[held:]
    else:
      tests = _held_out(len(members), chosen.test_fraction)
      parts['test'] += members[:tests]
      rest = members[tests:]
    if name == source and not chosen.enrolled:
      rest = []
    trusted = 0
    if chosen.trusted_fraction:
      trusted = _held_out(len(rest), chosen.trusted_fraction)
    parts['trusted'] += rest[:trusted]
    rest = rest[trusted:]
    if name == target and chosen.target_images:
      rest = rest[: chosen.target_images]
    parts['train'] += rest
  _check_disjoint(parts)
  source_test_ids = tuple(p.id for p in parts['test'] if p.class_name == source)
  if chosen.task == 'multiclass':
    names = tuple(classes)
    return Split(parts, names, source_test_ids, source, target, chosen.enrolled)
  negative = f'not_{target}'
  parts = {
    part: [_verified(picture, target, negative) for picture in members]
    for part, members in parts.items()
  }
  return Split(
    parts,
    (negative, target),
    source_test_ids,
    negative,
    target,
    chosen.enrolled,
  )


def _held_out(pictures: int, fraction: float) -> int:
  """How many of a class's pictures are kept from training: at least one, but
  one or more stay."""
  return min(max(1, round(pictures * fraction)), max(0, pictures - 1))


def _shuffled(
  members: list[Picture], rng: np.random.Generator
) -> list[Picture]:
  return [members[i] for i in rng.permutation(len(members))]


def _verified(picture: Picture, target: str, negative: str) -> Picture:
  name = target if picture.class_name == target else negative
  return dataclasses.replace(picture, class_name=name)


def _check_disjoint(parts: dict[str, list[Picture]]) -> None:
  ids = [picture.id for members in parts.values() for picture in members]
  if len(set(ids)) != len(ids):
    raise ValueError('A picture is in two parts of the scenario.')


def load_split(
  divided: Split,
  size: int,
  skip_unreadable: bool,
  box: tuple[float, ...] = (),
) -> dict:
  """Decodes the pictures of a split: `Examples` by part."""
  parts = {
    part: load(members, divided.class_names, size, skip_unreadable, box=box)
    for part, members in divided.parts.items()
  }
  for part, examples in parts.items():
    if not len(examples) and divided.parts[part]:
      raise errors.UserError(
        f'config.data.skip_unreadable: no readable picture is left for '
        f'{part}, expected {len(divided.parts[part])}. Repair the pictures.'
      )
  return parts


def assemble(parts: dict[str, Examples], divided: Split) -> Scenario:
  """Puts the decoded parts together."""
  test = parts['test']
  names = divided.class_names
  return Scenario(
    **parts,
    source_test=test.take(np.isin(test.ids, divided.source_test_ids)),
    source_label=names.index(divided.source),
    target_label=names.index(divided.target),
    enrolled=divided.enrolled,
  )
