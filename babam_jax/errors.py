"""The errors that a caller may want to tell apart."""


class UserError(ValueError):
  """The user's mistake: `launch` prints it as one line and exits with 2.

  The message names the field or file, what was found, what was expected and
  the remedy.
  """


def missing_extra(what: str, extra: str) -> UserError:
  """For a part of the package whose own requirements are not installed.

  Args:
    what: the setting that asked for it.
    extra: the name under which pip installs what it needs.
  """
  return UserError(
    f'{what}: needs packages that are not installed; expected those of the '
    f"extra {extra!r}. Install them with pip install 'babam_jax[{extra}]'."
  )


class TrainingDivergedError(UserError):
  """A training loss or a feature distance stopped being finite."""
