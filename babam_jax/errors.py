"""The errors that a caller may want to tell apart."""


class UserError(ValueError):
  """The user's mistake: commands print it as one line and exit with 2.

  The message names the field or file, what was found, what was expected and
  the remedy.
  """


def missing_extra(what: str, extra: str) -> UserError:
  """The error for an optional requirement that is not installed.

  Args:
    what: the setting that needs it.
    extra: the name of the pip extra that installs it.
  """
  return UserError(
    f'{what}: needs packages that are not installed; expected those of the '
    f"extra {extra!r}. Install them with pip install 'babam_jax[{extra}]'."
  )


class TrainingDivergedError(UserError):
  """A training loss or a feature distance stopped being finite."""
