"""The errors that a caller may want to tell apart."""


class UserError(ValueError):
  """The user's mistake: `launch` prints it as one line and exits with 2.

  The message names the field or file, what was found, what was expected and
  the remedy.
  """


class TrainingDivergedError(UserError):
  """A training loss or a feature distance stopped being finite."""
