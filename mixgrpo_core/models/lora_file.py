"""The LoRA file that every host reads: diffusers names, alpha baked in, one safetensors file.

``transformer.<module>.lora_A.weight [r, in]`` and ``transformer.<module>.lora_B.weight [out, r]``, or the names of a
UNet (`unet_names`); the change of the weight is ``B @ A`` and nothing else. A file without ``.alpha`` means a factor of
1 to ComfyUI and to diffusers alike, so ``alpha / r`` is multiplied into B when the file is written.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..support.files import make_folder
from ..support.quoting import listed
from ..support.seeds import derive_seed
from ..support.tensor_files import write_tensors
from .lora_names import DOWN, UP, LoraFileError
from .lora_reading import ADAPTER_METADATA, read_lora
from .unet_names import KOHYA, UNET, as_written, of_a_unet, read_layer

PREFIX = "transformer."
NATIVE = "diffusion_model."
"""Names that begin so are ComfyUI's own, of a model that has none in diffusers: they stand in the file as they are."""
_FLAT = ("lora_transformer_", "lycoris_")
"""Before names of diffusers whose points are underscores: of OneTrainer and SimpleTuner."""


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

    Args:
        state: pairs ``A [r, in]`` and ``B [out, r]``, of any float dtype.
        scale: ``alpha / r``, written into B.
        metadata: strings for the header.
        dtype: of the file's tensors.

    Returns:
        ``path``.

    Raises:
        LoraFileError: a tensor without its partner, shapes that do not fit, or metadata that are no strings.
        OSError: the file cannot be written.
    """
    path = Path(path)
    header = dict(metadata or {})
    header.pop(ADAPTER_METADATA, None)  # the alpha of another file; this one's is in B
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
        tensors[name] = value.to(dtype).clone(memory_format=torch.contiguous_format)
    _write(path, in_file(tensors), {**header, "format": "pt"})
    return path


def in_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names that a file has for them: a UNet's are those of sd-scripts, all others diffusers'."""
    unet = {name: tensor for name, tensor in state.items() if of_a_unet(name)}
    rest = {name: tensor for name, tensor in state.items() if name not in unet}
    named = {name if name.startswith(NATIVE) else PREFIX + name: tensor for name, tensor in rest.items()}
    return {**named, **as_written(unet)}


def _write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Put the file at ``path`` in one step, or leave everything as it was."""
    size = sum(tensor.nbytes for tensor in tensors.values()) / 2**20
    try:
        make_folder(path.parent)
        write_tensors(path, tensors, header)
    except OSError as error:
        raise LoraFileError(
            f"could not write {path} ({size:.1f} MiB): {error.strerror or error}; nothing was changed, "
            f"make room or choose another folder"
        ) from error


def load_lora(path: str | Path) -> LoraFile:
    """Read a LoRA file, or a folder that peft wrote, of layers with diffusers' names.

    An alpha is baked in, wherever the file says it (`lora_reading`). Layers of lower rank than others are filled up
    with a fresh A and a B of 0, because one rank is what a model is built with. Parts for text encoders stay out, which
    a ``RuntimeWarning`` tells.

    Raises:
        LoraFileError: a file that is broken, of another kind of adapter, or of names that are not read here.
    """
    read = read_lora(path)
    if read.text:
        warnings.warn(
            f"{path} holds {len(read.text)} tensors of text encoders ({listed(sorted(read.text))}), which stay out: "
            "text encoders are not trained here",
            RuntimeWarning,
            stacklevel=2,
        )
    return lora_of(read.tensors, read.metadata, str(path))


def lora_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], where: str) -> LoraFile:
    """The LoRA of pairs A and B, with or without diffusers' prefix, of one rank or several. Raises `LoraFileError`."""
    kohya = [name for name in tensors if name.startswith(KOHYA) and read_layer(name) is None]
    if kohya:
        raise LoraFileError(
            f"{where} has the names of kohya ({listed(kohya)}), whose layers are those of ComfyUI: write it in the "
            "layout of diffusers with the node MixGRPO Convert LoRA"
        )
    state = {layer_of(name): tensor.float() for name, tensor in tensors.items()}
    modules = _pairs(state, where)
    rank = max(state[module + DOWN].shape[0] for module in modules)
    for module in modules:
        down, up = state[module + DOWN], state[module + UP]
        lacking = rank - len(down)
        if lacking:
            fresh = fresh_down(rank, down.shape[1], derive_seed("rank", module))
            state[module + DOWN] = torch.cat([down, fresh[-lacking:]])
            state[module + UP] = torch.cat([up, torch.zeros(len(up), lacking)], dim=1)
    return LoraFile(state=state, metadata=metadata, rank=rank)


def layer_of(name: str) -> str:
    """A tensor's name without what tools put before diffusers' own."""
    prefix = next((prefix for prefix in (PREFIX, *_FLAT) if name.startswith(prefix)), "")
    return (read_layer(name) if name.startswith((KOHYA, UNET)) else None) or name.removeprefix(prefix)


def fresh_down(rank: int, incoming: int, seed: int) -> Tensor:
    """A fresh A ``[rank, incoming]``, float32: uniform in +-1/sqrt(incoming)."""
    bound = 1 / math.sqrt(incoming)
    drawn = torch.rand((rank, incoming), generator=torch.Generator().manual_seed(seed))
    return (2 * drawn - 1) * bound


def _pairs(state: Mapping[str, Tensor], where: str) -> list[str]:
    """The modules of a LoRA, each with an ``A [r, in]`` and a ``B [out, r]``, or a sentence that says what is wrong."""
    foreign = [name for name in state if not name.endswith((DOWN, UP))]
    modules = sorted({name.removesuffix(DOWN).removesuffix(UP) for name in state if name not in foreign})
    if foreign or not modules:
        raise LoraFileError(
            f"{where} is not a LoRA of diffusers names: expected only pairs <module>{DOWN} and <module>{UP}, found "
            f"{listed(foreign) if foreign else 'no tensors'}; export it in the diffusers layout"
        )
    lonely = [f"{module}{kind}" for module in modules for kind in (DOWN, UP) if module + kind not in state]
    if lonely:
        raise LoraFileError(f"{where} is half a LoRA: {listed(lonely)} is missing beside its partner; get it again")
    for module in modules:
        down, up = state[module + DOWN], state[module + UP]
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise LoraFileError(
                f"{where}: expected A [r, in] and B [out, r] for {module}, found A {list(down.shape)} and "
                f"B {list(up.shape)}; only LoRAs of linear layers are supported"
            )
    return modules
