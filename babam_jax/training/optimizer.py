"""Optimizers of the paper and of its released scripts."""

import optax


def make_optimizer(
  name: str, learning_rate: float, steps_per_epoch: int, num_epochs: int
) -> optax.GradientTransformation:
  """The optimizer `name` with its learning-rate schedule.

  Args:
    name: 'adam': constant rate (PIRM, paper 4.10); 'adam_cosine': the rate
      falls to 0 on a cosine; 'sgd': momentum 0.9 and a tenth of the rate every
      ten epochs (FR, released script).
    learning_rate: at the first step.
    steps_per_epoch: optimizer steps in an epoch.
    num_epochs: the length of the training.
  """
  if name == 'adam':
    return optax.adam(learning_rate)
  if name == 'adam_cosine':
    steps = steps_per_epoch * num_epochs
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
  if name == 'sgd':
    schedule = optax.exponential_decay(
      learning_rate, 10 * steps_per_epoch, 0.1, staircase=True
    )
    return optax.sgd(schedule, momentum=0.9)
  raise ValueError(f'No optimizer {name!r}.')


OPTIMIZERS = ('adam', 'adam_cosine', 'sgd')
