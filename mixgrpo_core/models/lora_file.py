"""The LoRA file that every host reads: diffusers names, alpha baked in, one safetensors file.

``transformer.<module>.lora_A.weight [r, in]`` and ``transformer.<module>.lora_B.weight [out, r]``; the change of the
weight is ``B @ A`` and nothing else. A file without ``.alpha`` means a factor of 1 to ComfyUI and to diffusers alike,
so ``alpha / r`` is multiplied into B when the file is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..support.files import write_atomically

PREFIX = "transformer."
NATIVE = "diffusion_model."
"""Names that begin so are ComfyUI's own, of a model that has none in diffusers: they stand in the file as they are."""
DOWN = ".lora_A.weight"
UP = ".lora_B.weight"
ALPHA = ".alpha"


class LoraFileError(ValueError):
    """A LoRA file that cannot be read as one, or cannot be written."""


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """What a LoRA file holds.

    Attributes:
        state: ``{"<module>.lora_A.weight": [r, in], "<module>.lora_B.weight": [out, r]}`` on the CPU, float32, without
            the ``transformer.`` prefix; the change of a weight is exactly ``B @ A``.
        metadata: the strings of the file's header.
        rank: ``r``, the same for every module.
    """

    state: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    rank: int


def save_lora(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    scale: float = 1.0,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write ``state`` (names as in ``LoraFile.state``) so that both hosts apply ``scale * B @ A``.

    The file appears complete or not at all: it is written beside its place, synced and renamed. float32 keeps the
    function bit for bit; bfloat16 halves the file and moves the weights' change by a relative 2e-3.
    """
    path = Path(path)
    header = dict(metadata or {})
    for key, text in header.items():
        if not isinstance(text, str):
            raise LoraFileError(
                f"the metadata of a LoRA file are strings, but '{key}' is {type(text).__name__}; write it as JSON"
            )
    _pairs(state, "the LoRA to be saved")
    tensors = {}
    for name, tensor in state.items():
        value = tensor.detach().to("cpu", torch.float32)
        value = value * scale if name.endswith(UP) else value
        # clone: tensors that share memory, or views of a larger one, are not what a safetensors file can hold
        key = name if name.startswith(NATIVE) else PREFIX + name
        tensors[key] = value.to(dtype).clone(memory_format=torch.contiguous_format)
    _write(path, save(tensors, {**header, "format": "pt"}))
    return path


def _write(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step, or leave everything as it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise LoraFileError(
            f"could not write {path} ({len(data) / 2**20:.1f} MiB): {error.strerror or error}; nothing was changed, "
            f"make room or choose another folder"
        ) from error


def load_lora(path: str | Path) -> LoraFile:
    """Read a LoRA of diffusers names, with or without the ``transformer.`` prefix, with or without ``.alpha``.

    An ``.alpha`` is baked in. Every module must have the same rank, because one number is what a model is built with.
    """
    path = Path(path)
    raw, metadata = _read(path)
    named = {name.removeprefix(PREFIX): tensor for name, tensor in raw.items()}
    alphas = {name.removesuffix(ALPHA): float(tensor) for name, tensor in named.items() if name.endswith(ALPHA)}
    state = {name: tensor.float() for name, tensor in named.items() if not name.endswith(ALPHA)}
    modules = _pairs(state, str(path))
    orphans = sorted(set(alphas) - set(modules))
    if orphans:
        raise LoraFileError(f"{path} has an alpha for {some(orphans)} but no lora_A and lora_B; it is not a whole LoRA")
    ranks = sorted({state[module + DOWN].shape[0] for module in modules})
    if len(ranks) > 1:
        raise LoraFileError(
            f"{path} mixes the ranks {', '.join(map(str, ranks))}, but a model trains one; bring the file to one rank"
        )
    for module, alpha in alphas.items():
        state[module + UP] = state[module + UP] * (alpha / ranks[0])
    return LoraFile(state=state, metadata=metadata, rank=ranks[0])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise LoraFileError(f"expected a LoRA file at {path}, found {'a folder' if path.is_dir() else 'nothing'}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LoraFileError(
            f"{path} is not a whole safetensors file ({error}); it was cut short or is of another format, get it again"
        ) from error


def _pairs(state: Mapping[str, Tensor], where: str) -> list[str]:
    """The modules of a LoRA, each with an ``A [r, in]`` and a ``B [out, r]``, or a sentence that says what is wrong."""
    foreign = [name for name in state if not name.endswith((DOWN, UP))]
    modules = sorted({name.removesuffix(DOWN).removesuffix(UP) for name in state if name not in foreign})
    if foreign or not modules:
        raise LoraFileError(
            f"{where} is not a LoRA of diffusers names: expected only pairs <module>{DOWN} and <module>{UP}, found "
            f"{some(foreign) if foreign else 'no tensors'}; export it in the diffusers layout"
        )
    lonely = [f"{module}{kind}" for module in modules for kind in (DOWN, UP) if module + kind not in state]
    if lonely:
        raise LoraFileError(f"{where} is half a LoRA: {some(lonely)} is missing beside its partner; get it again")
    for module in modules:
        down, up = state[module + DOWN], state[module + UP]
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise LoraFileError(
                f"{where}: expected A [r, in] and B [out, r] for {module}, found A {list(down.shape)} and "
                f"B {list(up.shape)}; only LoRAs of linear layers are supported"
            )
    return modules


def some(names: list[str]) -> str:
    """Up to three names and how many more there are, for a message."""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
