"""Gets pretrained weights into the weight cache, or lists what is there.

  python -m launch.weights list
  python -m launch.weights --model=resnet18 fetch
  python -m launch.weights --model=resnet18 convert FILE

`fetch` downloads torchvision's own checkpoint. `convert` takes a file of your
own: `.pth` in either of PyTorch's formats or `.safetensors`, with names as in
torchvision; an embedded trunk (`.ckpt`); for mobile_face_net, an `.onnx` file;
for dlib_resnet, a `.dat` file of dlib's.
Neither needs PyTorch, and neither runs anything that is in the file.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from babam_jax import errors
from babam_jax.cli import command
from babam_jax.data import download
from babam_jax.models import networks
from babam_jax.models.pretrained import conversion, weights

_MODEL = flags.DEFINE_enum(
  'model', None, list(networks.ARCHITECTURES), 'The network of the weights.'
)
_PART = flags.DEFINE_enum(
  'part',
  'full',
  conversion.PARTS,
  "convert: 'trunk' takes the convolutions alone.",
)
_SERVER = flags.DEFINE_string(
  'server',
  weights.OFFICIAL_SERVER,
  "fetch: the address of a folder with torchvision's files.",
)


def _list() -> None:
  print(f'in {download.cache_folder() / "weights"}:')
  for model, part, about in weights.cached():
    print(f'  {model} {part}: {about}')
  print(f'trunks in packages: {", ".join(weights.PACKAGED)}')


def _tell(found: weights.Weights) -> None:
  print(f'{found.model} {found.part}: SHA-256 {found.sha256}, in the cache')


def main(arguments: Sequence[str]) -> None:
  """`list`, `fetch` or `convert FILE`."""
  model = _MODEL.value
  match list(arguments):
    case ['list']:
      _list()
    case ['fetch'] if model:
      _tell(weights.fetch(model, _SERVER.value))
    case ['convert', path] if model:
      found = weights.read_file(pathlib.Path(path), model, _PART.value)
      weights.store(found)
      _tell(found)
    case ['fetch'] | ['convert', _]:
      raise errors.UserError(
        f'--model: is missing; expected one of '
        f'{", ".join(networks.ARCHITECTURES)}. Name the model.'
      )
    case other:
      raise errors.UserError(
        f'command line: found {" ".join(other) or "nothing"!r}, expected '
        "'list', 'fetch' or 'convert FILE'. See --help."
      )


def start() -> None:
  """Runs the command with the options of its command line."""
  command.run_tool(main)
