"""What the package needs, for its metadata: read from the requirement files."""

import pathlib

from hatchling.metadata.plugin.interface import MetadataHookInterface

# After a requirement: pip installs it with all others, but in the package it
# belongs to this extra, as in `pip install 'babam_jax[slurm]'`.
_MARK = 'extra:'
# Extras that are not among all others, each in a file.
_APART = ('flare', 'faces')


def _requirements(path: pathlib.Path) -> list[tuple[str, str]]:
  """The requirements in a file, and the comment after each."""
  lines = path.read_text('utf-8').splitlines()
  parts = (line.partition('#') for line in lines)
  return [(what.strip(), why.strip()) for what, _, why in parts if what.strip()]


class RequirementsHook(MetadataHookInterface):
  """Fills the fields that `pyproject.toml` calls dynamic."""

  def update(self, metadata: dict) -> None:
    """Sets `dependencies` and `optional-dependencies`."""
    always: list[str] = []
    extras: dict[str, list[str]] = {}
    root = pathlib.Path(self.root)
    for requirement, comment in _requirements(root / 'requirements.txt'):
      if comment.startswith(_MARK):
        extra = comment.removeprefix(_MARK).strip()
        extras.setdefault(extra, []).append(requirement)
      else:
        always.append(requirement)
    for extra in _APART:
      found = _requirements(root / f'requirements-{extra}.txt')
      extras[extra] = [requirement for requirement, _ in found]
    metadata['dependencies'] = always
    metadata['optional-dependencies'] = extras
