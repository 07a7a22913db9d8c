"""The figures of one run's report, as matplotlib figures."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from babam_jax.evaluation.canvas import Figure, subplots
from babam_jax.evaluation.statistics import roc_curve
from babam_jax.progress import harmless

_COLORS = {
  'clean': '#4477aa',
  'malicious': '#cc3311',
  'protected': '#228833',
  'pirm': '#555555',
}
_MAGNIFICATION = 8  # times the difference of target and poison
_GAP = 12  # to a picture's side, the gap to the next is one to this
_IN_A_LEGEND = 4  # curves; for more, the legend is below the plots

Picture = UInt8[np.ndarray, 'h w 3']
Pictures = UInt8[np.ndarray, 'n h w 3']


def _picture_grid(
  columns: Sequence[tuple[str, UInt8[np.ndarray, '_ h w 3']]],
  row_titles: Sequence[str] = (),
) -> Figure:
  """Pictures of equal size, as one image: axes of their own take seconds."""
  rows = max(len(pictures) for _, pictures in columns)
  height, width = columns[0][1].shape[1:3]
  # From the corner of one picture to that of the next.
  down, across = height + height // _GAP, width + width // _GAP
  grid = np.full((rows * down, len(columns) * across, 3), 255, np.uint8)
  for column, (_, pictures) in enumerate(columns):
    for row, picture in enumerate(pictures):
      top, left = row * down, column * across
      grid[top : top + height, left : left + width] = picture
  figsize = (1.75 * len(columns), 1.75 * rows * height / width + 0.35)
  figure, ax = subplots(figsize=figsize)
  ax.imshow(grid)
  ax.set_frame_on(False)
  ax.tick_params(length=0, labelsize=10, labeltop=True, labelbottom=False)
  middles = np.arange(len(columns)) * across + width / 2
  ax.set_xticks(middles, [title for title, _ in columns])
  middles = np.arange(len(row_titles)) * down + height / 2
  ax.set_yticks(middles, row_titles, rotation=90, va='center')
  return figure


def attack_pictures(
  targets: Pictures,
  poisons: Pictures,
  patched_sources: Pictures,
  patched_tests: UInt8[np.ndarray, 'm h w 3'],
) -> Figure:
  """Target, poison, their difference, the patched source, the trigger."""
  change = poisons.astype(np.int16) - targets
  magnified = np.clip(128 + _MAGNIFICATION * change, 0, 255).astype(np.uint8)
  return _picture_grid(
    [
      ('target (victim)', targets),
      ('poison, as saved', poisons),
      (f'difference x {_MAGNIFICATION}', magnified),
      ('its patched source', patched_sources),
      ('attacker at test time', patched_tests),
    ]
  )


def defense_pictures(flagged: Pictures, sanitized: Pictures) -> Figure:
  """Flagged training pictures before and after the defense."""
  return _picture_grid(
    [
      (f'{when} {i + 1}', pictures[i : i + 1])
      for i in range(len(flagged))
      for when, pictures in (('flagged', flagged), ('sanitized', sanitized))
    ]
  )


def noise_grid(
  grid: UInt8[np.ndarray, 'r c h w 3'], epsilons: Sequence[float]
) -> Figure:
  """A clean and a poisoned picture under more and more noise (Figure 3)."""
  titles = ['no noise', *(f'epsilon {epsilon}' for epsilon in epsilons)]
  columns = [(title, grid[:, i]) for i, title in enumerate(titles)]
  return _picture_grid(columns, ['clean', 'poisoned'])


def training_curves(
  histories: dict[str, list[dict[str, Any]]],
) -> Figure:
  """Loss and training accuracy over steps, a line per model (Figure 6)."""
  many = len(histories) > _IN_A_LEGEND
  height = 3 + (0.25 * -(-len(histories) // 3) if many else 0)
  figure, axes = subplots(1, 2, figsize=(9, height))
  for ax, metric in zip(axes, ('loss', 'accuracy'), strict=True):
    for name, history in histories.items():
      ax.plot(
        [record['step'] for record in history],
        [record[metric] for record in history],
        color=_COLORS.get(name),
        label=name,
      )
    ax.set(xlabel='step', ylabel=metric, title=f'training {metric}')
    ax.grid(alpha=0.3)
  axes[0].set_yscale('log')
  if many:
    handles = axes[1].get_legend_handles_labels()
    figure.legend(*handles, loc='outside lower center', ncols=3, fontsize=8)
  else:
    axes[1].legend()
  return figure


def first_epoch(history: Sequence[dict[str, Any]]) -> Figure:
  """Loss and accuracy over the steps of the first epoch (Figure 7), and over
  the epochs if there are several."""
  panels = [
    ('first epoch', history[0]['step_loss'], history[0]['step_accuracy'])
  ]
  if len(history) > 1:
    panels.append(
      (
        'all epochs',
        [record['loss'] for record in history],
        [record['accuracy'] for record in history],
      )
    )
  figure, axes = subplots(1, len(panels), figsize=(9, 3), squeeze=False)
  for ax, (title, losses, accuracies) in zip(axes[0], panels, strict=True):
    steps = np.arange(1, len(losses) + 1)
    ax.plot(steps, losses, color=_COLORS['malicious'], label='loss')
    ax.plot(steps, accuracies, color=_COLORS['clean'], label='accuracy')
    ax.set(title=title, xlabel='epoch', ylim=(0, None))
    ax.grid(alpha=0.3)
  axes[0, 0].set_xlabel('step')
  axes[0, 0].legend()
  return figure


def detection(
  scores: Float[np.ndarray, ' n'],
  poisoned: Bool[np.ndarray, ' n'],
  test_scores: Float[np.ndarray, ' m'],
  threshold: float | None,
) -> Figure:
  """A detector's ROC curve and its scores.

  Args:
    scores: those of the training set.
    poisoned: the ground truth of the training set.
    test_scores: those of the clean test pictures; may be empty.
    threshold: scores above it are flagged; None if there is no threshold.
  """
  figure, (left, right) = subplots(1, 2, figsize=(9, 3))
  fpr, tpr = roc_curve(scores, poisoned)
  left.plot(fpr, tpr, color=_COLORS['malicious'])
  left.plot([0, 1], [0, 1], color='#bbbbbb', linewidth=1, linestyle='--')
  left.set(
    xlabel='false positive rate',
    ylabel='true positive rate',
    title='ROC on the untrusted training set',
    xlim=(-0.02, 1.02),
    ylim=(-0.02, 1.02),
  )
  every = np.concatenate([scores, test_scores])
  bins = np.linspace(min(0.0, every.min()), max(1.0, every.max()), 41)
  for values, label, color in (
    (scores[~poisoned], 'clean, training', _COLORS['clean']),
    (test_scores, 'clean, test', '#99ccee'),
    (scores[poisoned], 'poison', _COLORS['malicious']),
  ):
    if len(values):
      right.hist(values, bins, label=label, color=color, alpha=0.7)
  if threshold is not None:
    right.axvline(threshold, color='black', linewidth=1, linestyle=':')
  right.set(
    xlabel='score',
    ylabel='pictures',
    yscale='log',
    ylim=(0.5, None),
    title='Scores',
  )
  right.legend(loc='upper center')
  return figure


def reliability(bins: Sequence[dict[str, Any]]) -> Figure:
  """Mean scores and shares of poison; probabilities lie on the line.

  Args:
    bins: each with its mean `score`, share `poisoned` and `count`.
  """
  figure, ax = subplots(figsize=(4.2, 4))
  ax.plot([0, 1], [0, 1], color='black', linewidth=1, linestyle=':')
  scores = [b['score'] for b in bins]
  ax.plot(scores, [b['poisoned'] for b in bins], 'o-', color=_COLORS['clean'])
  for b in bins:
    ax.annotate(
      f'{b["count"]}',
      (b['score'], b['poisoned']),
      xytext=(4, -10),
      textcoords='offset points',
      fontsize=7,
    )
  ax.set(xlabel='PIRM score (mean)', ylabel='share poisoned')
  ax.grid(alpha=0.3)
  return figure


def score_histogram(
  counts: Int[np.ndarray, ' bins'], threshold: float
) -> Figure:
  """How many pictures have which score, in equal bins from 0 to 1."""
  figure, ax = subplots(figsize=(9, 2.6))
  edges = np.linspace(0, 1, len(counts) + 1)
  ax.bar(
    edges[:-1], counts, np.diff(edges), align='edge', color=_COLORS['clean']
  )
  ax.axvline(threshold, color='black', linewidth=1, linestyle=':')
  ax.set(
    xlabel='PIRM score (dotted: the threshold)',
    ylabel='pictures',
    yscale='log',
    ylim=(0.5, None),
  )
  return figure


def worst_offenders(
  shown: Sequence[tuple[str, Picture, Picture, Picture | None]],
) -> Figure:
  """Flagged pictures.

  Args:
    shown: each as (title, picture, its texture, as it was written); None: not
      written.
  """
  figure, axes = subplots(
    3,
    len(shown),
    figsize=(1.6 * len(shown) + 0.4, 5.2),
    squeeze=False,
  )
  for column, (title, *pictures) in zip(axes.T, shown, strict=True):
    lines = textwrap.wrap(title, 18)[:3]
    # Dollar signs in a file's name begin no formula.
    column[0].set_title('\n'.join(lines), fontsize=7, parse_math=False)
    for ax, picture in zip(column, pictures, strict=True):
      if picture is None:
        middle = {'ha': 'center', 'va': 'center', 'transform': ax.transAxes}
        ax.text(0.5, 0.5, 'not written', fontsize=8, **middle)
      else:
        ax.imshow(picture)
      ax.set_xticks([])
      ax.set_yticks([])
  for ax, label in zip(
    axes[:, 0], ('as found', 'its texture', 'as written'), strict=True
  ):
    ax.set_ylabel(label, fontsize=9)
  return figure


def twins(
  rows: Sequence[tuple[str, Sequence[tuple[Picture, Sequence[float]]]]],
) -> Figure:
  """Pictures that share something, with a box where it is.

  Args:
    rows: for each thing a title, and pictures, each with left, top, right and
      bottom of a box, as shares of the picture.
  """
  from matplotlib import patches  # loaded with the first figure

  columns = max(len(pictures) for _, pictures in rows)
  figure, axes = subplots(
    len(rows),
    columns,
    figsize=(1.4 * columns + 0.4, 1.75 * len(rows)),
    squeeze=False,
  )
  for line, (title, pictures) in zip(axes, rows, strict=True):
    shortened = textwrap.shorten(harmless(title), 60, placeholder=' ...')
    line[0].set_title(shortened, fontsize=8, loc='left', parse_math=False)
    for ax in line:
      ax.set_axis_off()
    for ax, (picture, place) in zip(line, pictures, strict=False):
      height, width = picture.shape[:2]
      left, top, right, bottom = np.multiply(place, (width, height) * 2)
      ax.imshow(picture)
      corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
      ax.add_patch(
        patches.Rectangle(corner, *size, fill=False, color=_COLORS['malicious'])
      )
  return figure


def before_and_after(models: dict[str, dict[str, Any]]) -> Figure:
  """Accuracy, attack success and base rate of each model, with intervals."""
  figure, ax = subplots(figsize=(9, 3.2))
  titles = {
    'accuracy': 'accuracy',
    'asr': 'attack success (ASR)',
    'asr_unpatched': 'no-patch base rate',
  }
  width = 0.8 / len(models)
  for i, (name, found) in enumerate(models.items()):
    rates = np.array([found[metric] for metric in titles])
    intervals = np.array([found[f'{metric}_ci'] for metric in titles]).T
    places = np.arange(len(titles)) + (i - (len(models) - 1) / 2) * width
    ax.bar(
      places,
      100 * rates,
      width * 0.9,
      yerr=100 * np.abs(intervals - rates),
      capsize=3,
      color=_COLORS[name],
      label=name,
    )
    for place, rate in zip(places, 100 * rates, strict=True):
      # At the foot of the bar, where no error bar crosses it.
      ax.annotate(
        f'{rate:.1f}',
        (place, 1),
        fontsize=9,
        ha='center',
        va='bottom',
        bbox={
          'facecolor': 'white',
          'alpha': 0.7,
          'edgecolor': 'none',
          'pad': 1,
        },
      )
  ax.set_xticks(range(len(titles)), titles.values())
  ax.set(ylabel='percent', ylim=(0, 105))
  ax.legend(loc='upper right')
  return figure
