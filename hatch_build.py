"""What the package needs, for its metadata: read from `requirements.txt`."""

import pathlib

from hatchling.metadata.plugin.interface import MetadataHookInterface

# After a requirement: pip installs it with all others, but in the package it
# belongs to this extra, as in `pip install 'babam_jax[slurm]'`.
_MARK = 'extra:'


class RequirementsHook(MetadataHookInterface):
  """Fills the fields that `pyproject.toml` calls dynamic."""

  def update(self, metadata: dict) -> None:
    """Sets `dependencies` and `optional-dependencies`."""
    always: list[str] = []
    extras: dict[str, list[str]] = {}
    path = pathlib.Path(self.root, 'requirements.txt')
    for line in path.read_text('utf-8').splitlines():
      requirement, _, comment = map(str.strip, line.partition('#'))
      if not requirement:
        continue
      if comment.startswith(_MARK):
        extra = comment.removeprefix(_MARK).strip()
        extras.setdefault(extra, []).append(requirement)
      else:
        always.append(requirement)
    metadata['dependencies'] = always
    metadata['optional-dependencies'] = extras
