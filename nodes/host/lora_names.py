"""Which linear layers of a host model are trained, and what each is called in a LoRA file.

The names are read from the table with which the host itself loads LoRA files, so a file with these names fits the host
by construction. The host often fuses what diffusers keeps apart: one layer then holds several parts, each a range of
its rows. A model whose table is empty or does not fit keeps the host's own names (``diffusion_model.``...).
"""

import re
from dataclasses import dataclass

import comfy.lora
from comfy.model_base import BaseModel

from ...mixgrpo_core.models.lora_file import PREFIX

_BLOCK = re.compile(r"diffusion_model\.(?:[A-Za-z_]\w*\.)+?\d+(?=\.)")
_NOT_TRAINED = re.compile(
    r"\.(?:\w+_)?mod[A-Z]*\.|modulation|norm|emb(?:ed\w*)?\b|guidance|caption|conditioner|context_processor"
)
"""Modules inside of lists that are no attention and no MLP of a block."""
_FLUX1_ONLY = re.compile(
    r"transformer_blocks\.\d+\.ff(_context)?\.net\.|single_transformer_blocks\.\d+\.(proj_|attn\.to_[qkv]$)"
)
_FLUX2_ONLY = re.compile(
    r"transformer_blocks\.\d+\.ff(_context)?\.linear_|single_transformer_blocks\.\d+\.attn\.to_(qkv_mlp_proj|out)$"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows ``start`` to ``stop`` of a layer's weight, under their name in LoRA files (without ``.lora_A.weight``)."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A linear layer of the host and its parts, which tile its rows in their order.

    Attributes:
        path: from the host's model down: ``diffusion_model.joint_blocks.0.x_block.attn.qkv``.
        inputs: columns of the weight.
    """

    path: str
    inputs: int
    parts: tuple[Part, ...]


def trained_layers(model: BaseModel) -> list[Layer]:
    """The attention and MLP layers of all blocks, in the order of the model's modules.

    Raises:
        ValueError: the model has none.
    """
    sizes = _sizes(model)
    named = {path: _tiled(parts, sizes[path][1]) for path, parts in _table(model, sizes).items()}
    if not named or not all(named.values()):
        named = {path: (Part(name=path, start=0, stop=rows),) for path, (_, rows) in sizes.items()}
    layers = [Layer(path=path, inputs=sizes[path][0], parts=named[path]) for path in sizes if path in named]
    if not layers:
        raise ValueError(
            f"expected a transformer whose blocks have attention and MLP layers for a LoRA to sit on, found "
            f"{type(model).__name__} without any: this model cannot be trained"
        )
    return layers


def block_of(path: str) -> str:
    """The block that a layer belongs to: ``diffusion_model.joint_blocks.0``."""
    found = _BLOCK.match(path)
    if found is None:
        raise ValueError(f"expected a layer inside of a block, found {path}")
    return found.group()


def _sizes(model: BaseModel) -> dict[str, tuple[int, int]]:
    """Columns and rows of attention and MLP layers by path. The host's quantised linear layers are no ``nn.Linear``."""
    found: dict[str, tuple[int, int]] = {}
    for path, module in model.named_modules():
        if not _BLOCK.match(path) or _NOT_TRAINED.search(path.removeprefix("diffusion_model")):
            continue
        inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
        if isinstance(inputs, int) and isinstance(outputs, int) and hasattr(module, "weight"):
            found[path] = (inputs, outputs)
    return found


def _table(model: BaseModel, sizes: dict[str, tuple[int, int]]) -> dict[str, list[Part]]:
    """The diffusers names of the layers of ``sizes`` that the host knows, without another family's aliases."""
    aliases = _FLUX1_ONLY if model.model_config.unet_config.get("image_model") == "flux2" else _FLUX2_ONLY
    keys = comfy.lora.model_lora_keys_unet(model, {})
    found: dict[str, list[Part]] = {}
    for key, target in keys.items():
        name = key.removeprefix(PREFIX)
        if name == key or aliases.match(name) or f"{key}.0" in keys:  # some tools drop the 0 of `to_out.0`
            continue
        weight, rows, *rearranged = target if isinstance(target, tuple) else (target, None)
        path = weight.removesuffix(".weight")
        if path in sizes and not rearranged:
            start, count = (0, sizes[path][1]) if rows is None else rows[1:]
            found.setdefault(path, []).append(Part(name=name, start=start, stop=start + count))
    return found


def _tiled(parts: list[Part], rows: int) -> tuple[Part, ...]:
    """The parts in order, or none where they overlap or leave out rows: the table is then another model's."""
    ordered = tuple(sorted(parts, key=lambda part: part.start))
    edges = [0, *(part.stop for part in ordered)]
    return ordered if edges[-1] == rows and edges[:-1] == [part.start for part in ordered] else ()
