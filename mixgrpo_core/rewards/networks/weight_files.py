"""Weight files as users have them: safetensors, torch pickles of tensors only, and Hugging Face folders.

Names and shapes are known without reading the tensors; what is read is what is asked for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...support.file_kinds import is_safetensors, what_it_is
from ...support.json_files import json_table
from ...support.paths import user_path
from ...support.quoting import cause

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (*SAFETENSORS, *PICKLES)
_IN_FOLDERS = (
    *("model.safetensors.index.json", "model.safetensors", "open_clip_model.safetensors"),
    *("model.bf16.safetensors", "model.fp16.safetensors"),  # variants of 16 bits, where a folder has nothing else
    *("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"),  # an autoencoder's
    *("pytorch_model.bin.index.json", "pytorch_model.bin", "open_clip_pytorch_model.bin"),
)
_WRAPPERS = ("state_dict", "model")  # keys under which training code puts the weights
_PREFIXES = ("module.", "model.")  # of names, put before all of them by wrappers of the network


class WeightsError(ValueError):
    """A weight file that cannot be read, or holds another network than expected."""


@dataclass(frozen=True)
class _Place:
    file: Path
    name: str


class Weights:
    """The named tensors of a file or folder.

    Attributes:
        path: where they are, as given.
        shapes: of every tensor, by its name without prefixes of wrappers.
        config: the folder's ``config.json``, or empty.
    """

    def __init__(self, path: str | Path) -> None:
        """Look into ``path``: one file of ``SUFFIXES``, or a folder with one (or a sharded index).

        Raises:
            WeightsError: nothing there, another kind of file, truncated, or a pickle that needs code.
        """
        self.path = user_path(path)
        self.files, self.config = _files(self.path)
        found = {name: (_Place(file, name), shape) for file in self.files for name, shape in _shapes(file).items()}
        if not found:
            raise WeightsError(f"expected weights in {self.path}, found no tensor: it is another kind of file")
        prefix = _common_prefix(found)
        self._places = {name.removeprefix(prefix): place for name, (place, _) in found.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name.removeprefix(prefix): shape for name, (_, shape) in found.items()
        }

    @property
    def identity(self) -> tuple[tuple[str, int, int], ...]:
        """What makes them these weights: path, bytes and time of every file."""
        return tuple((str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The tensors of ``names``, on the CPU in their own dtype."""
        by_file: dict[Path, dict[str, str]] = {}
        for name in names:
            place = self._places[name]
            by_file.setdefault(place.file, {})[name] = place.name
        found: dict[str, Tensor] = {}
        for file, wanted in by_file.items():
            found |= _read(file, wanted)
        return found

    def size_of(self, names: Iterable[str]) -> int:
        """Numbers in the tensors of ``names``."""
        return sum(torch.Size(self.shapes[name]).numel() for name in names)


def _files(path: Path) -> tuple[list[Path], Mapping[str, Any]]:
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise WeightsError(f"expected a weight file of {', '.join(SUFFIXES)}, found {path}")
        return [path], {}
    if not path.is_dir():
        raise WeightsError(f"expected weights at {path}, found nothing: check the path")
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    for name in _IN_FOLDERS:
        if (path / name).is_file():
            return (_shards(path / name) if name.endswith(".index.json") else [path / name]), config
    raise WeightsError(f"expected one of {', '.join(_IN_FOLDERS)} in the folder {path}, found none of them")


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise WeightsError(f"expected a table weight_map of file names in {index}, found none: get the folder again")
    files = [index.parent / Path(name).name for name in sorted(set(names.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise WeightsError(f"{index} names files that are missing: {', '.join(missing)}")
    return files


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a reward. Raises ``WeightsError`` where there is none."""
    return json_table(path, WeightsError, "get it again")


def _is_safe(file: Path) -> bool:
    """Whether a file is to be read as safetensors: by its name, or by what it is."""
    return file.suffix.lower() in SAFETENSORS or is_safetensors(file)


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if not _is_safe(file):
        return {name: tuple(tensor.shape) for name, tensor in _unpickled(file).items()}
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        told = what_it_is(file) or f"get it again ({cause(error)})"
        raise WeightsError(f"{file} is not a whole safetensors file: {told}") from error


def _read(file: Path, wanted: Mapping[str, str]) -> dict[str, Tensor]:
    """``wanted``: name in the file by the name to give back."""
    if not _is_safe(file):
        tensors = _unpickled(file)
        return {name: tensors[original].clone() for name, original in wanted.items()}
    try:
        with safe_open(file, framework="pt") as opened:
            # clone: a view of the map would keep the file mapped as long as the network lives
            return {name: opened.get_tensor(original).clone() for name, original in wanted.items()}
    except (SafetensorError, OSError) as error:
        told = what_it_is(file) or f"get it again ({cause(error)})"
        raise WeightsError(f"{file} is not a whole safetensors file: {told}") from error


def _unpickled(file: Path) -> dict[str, Tensor]:
    """The tensors of a torch file. Nothing but tensors is unpickled: a pickle may hold code."""
    wrong = what_it_is(file)
    if wrong:
        raise WeightsError(f"{file} is not a whole torch file: {wrong}")
    try:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # the format before zip files has no map
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise WeightsError(
                f"{file} holds more than tensors: reading it would run its code, so it is not read. Get it as "
                "safetensors, or convert it yourself where you trust it"
            ) from error
        raise WeightsError(
            f"{file} is not a whole torch file ({type(error).__name__}: {cause(error)}): get it again"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise WeightsError(f"expected named tensors in {file}, found a {type(found).__name__}")
    return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _common_prefix(names: Iterable[str]) -> str:
    """Prefixes of wrappers that all names share."""
    names, prefix = list(names), ""
    while more := next((p for p in _PREFIXES if all(name.startswith(prefix + p) for name in names)), ""):
        prefix += more
    return prefix
