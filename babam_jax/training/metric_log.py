"""Training metrics, per epoch and step, as JSON lines and for TensorBoard."""

import json
import pathlib
import shutil
from types import TracebackType
from typing import Any

import tensorboardX

from babam_jax import files


class MetricLog:
  """Writes `<folder>/<name>.jsonl` and TensorBoard events beside it.

  A resumed or reused run writes its whole history again, so the files always
  begin with the first epoch.
  """

  def __init__(self, folder: pathlib.Path, name: str):
    self._path = folder / f'{name}.jsonl'
    self._records: list[dict[str, Any]] = []
    shutil.rmtree(folder / name, ignore_errors=True)  # an earlier run's
    self._events = tensorboardX.SummaryWriter(str(folder / name))

  def __enter__(self) -> 'MetricLog':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._events.close()

  def add(self, record: dict[str, Any]) -> None:
    """Appends the metrics of an epoch; `record['step']` is its last step."""
    self._records.append(record)
    lines = ''.join(json.dumps(r) + '\n' for r in self._records)
    files.write_text(self._path, lines)
    last = int(record['step'])
    for name, value in record.items():
      values = value if isinstance(value, list) else [value]
      for step, one in enumerate(values, last - len(values) + 1):
        if name != 'step':
          self._events.add_scalar(name, one, step)
    self._events.flush()
